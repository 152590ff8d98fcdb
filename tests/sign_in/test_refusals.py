"""Requests that one part of the chain refuses, and those that it serves, each as one caller."""

import base64
import json
import time
from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest

from .conftest import Chain

HEADER = "X-Forwarded-Access-Token"
USER_INFO = "/flyteidl2.auth.IdentityService/UserInfo"
MCP = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "me"}}
Headers = list[tuple[str, str]]


@pytest.fixture(scope="module")
def tokens(chain: Chain) -> dict[str, str]:
    """Tokens of carol, by what is wrong with them."""
    mint, past = chain.provider.token, int(time.time()) - 60
    parts = {"alg": "none"}, {"sub": "mallory", "aud": "flyte", "exp": past + 9000}
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts]
    return {
        "valid": mint("carol"),
        "dave's": mint("dave"),
        "forged": mint("carol", chain.provider.other_key),
        "unsigned": ".".join(part.rstrip("=") for part in encoded) + ".",
        "expired": mint("carol", exp=past),
        "other_audience": mint("carol", aud="other"),
        "id_token": mint("carol", aud="my-flyte-app"),
        "without_email": mint("carol", email=None),
        "large": mint("carol", groups=["g" * 40] * 200),
    }


@pytest.fixture(scope="module")
def alice(chain: Chain) -> Iterator[httpx.Client]:
    with closing(chain.signed_in("alice")) as client:
        yield client


def subject_or_status(response: httpx.Response) -> str | int:
    subject = response.json()["subject"] if response.is_success else response.status_code
    assert isinstance(subject, str | int)
    return subject


def bearer(name: str, scheme: str = "Bearer") -> tuple[str, str]:
    return "Authorization", f"{scheme} {{{name}}}"


def token_header(name: str) -> tuple[str, str]:
    return HEADER, f"{{{name}}}"


def with_tokens(headers: Headers, tokens: dict[str, str]) -> Headers:
    return [(name, value.format_map(tokens)) for name, value in headers]


LARGE = ("Cookie", "large=" + "x" * 60_000)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], 401),
        ([token_header("valid")], 401),
        ([bearer("valid")], "carol"),
        ([bearer("valid"), token_header("dave's")], "carol"),
        ([bearer("without_email")], "carol"),
        ([bearer("large"), LARGE], "carol"),
        ([bearer("forged")], 401),
        ([bearer("unsigned")], 401),
        ([bearer("expired")], 401),
        ([bearer("other_audience")], 401),
        ([bearer("id_token")], 403),  # Envoy: it is signed, but not for Flyte
        ([bearer("valid", "bearer")], 401),  # oauth2-proxy: RFC 9110 would allow it
        ([bearer("valid", "Basic")], 401),
        ([bearer("valid"), bearer("dave's")], "carol"),
        ([bearer("forged"), bearer("valid")], 401),
    ],
)
def test_oauth2_proxy_without_session_needs_valid_token(
    chain: Chain, tokens: dict[str, str], headers: Headers, expected: str | int
) -> None:
    with chain.client() as client:
        response = client.get("/me", headers=with_tokens(headers, tokens))
        assert subject_or_status(response) == expected, response.text
        refused = client.post("/mcp", json=MCP, headers=with_tokens(headers, tokens))
    if expected == 401:
        metadata = f"{chain.url}/.well-known/oauth-protected-resource/mcp"
        assert refused.headers["WWW-Authenticate"] == f'Bearer resource_metadata="{metadata}"'


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], "alice"),
        ([token_header("valid")], "alice"),
        ([("x_forwarded_access_token", "{valid}")], "alice"),
        ([bearer("valid")], "carol"),
        ([bearer("forged")], "alice"),
        ([bearer("valid", "Basic")], "alice"),
    ],
)
def test_oauth2_proxy_with_session_ignores_token_header(
    alice: httpx.Client, tokens: dict[str, str], headers: Headers, expected: str
) -> None:
    response = alice.get("/me", headers=with_tokens(headers, tokens))
    assert subject_or_status(response) == expected, response.text


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], 401),
        ([token_header("valid")], "carol"),
        ([token_header("forged")], 401),
        ([token_header("unsigned")], 401),
        ([token_header("expired")], 401),
        ([token_header("other_audience")], 403),
        ([token_header("valid"), token_header("dave's")], 400),
        ([bearer("valid")], 401),
        ([("Cookie", "flyte_at={valid}")], 401),
    ],
)
def test_app_without_oauth2_proxy_needs_valid_token(
    chain: Chain, tokens: dict[str, str], headers: Headers, expected: str | int
) -> None:
    response = httpx.get(f"{chain.app}/me", headers=with_tokens(headers, tokens), trust_env=False)
    assert subject_or_status(response) == expected, response.text


@pytest.mark.parametrize(
    ("headers", "query", "expected"),
    [
        ([], "", 401),
        ([], "?access_token={valid}", 401),
        ([bearer("valid")], "", "carol"),
        ([bearer("forged")], "", 401),
        ([bearer("unsigned")], "", 401),
        ([bearer("id_token")], "", 403),
        ([bearer("valid", "Basic")], "", 401),
        ([bearer("valid"), bearer("dave's")], "", 401),
        ([bearer("valid"), ("X-Amzn-Oidc-Identity", "mallory")], "", "carol"),
        ([bearer("valid"), ("X-Amzn-Oidc-Data", "{unsigned}")], "", "carol"),
    ],
)
def test_envoy_admits_one_verified_identity(
    *, chain: Chain, tokens: dict[str, str], headers: Headers, query: str, expected: str | int
) -> None:
    url = chain.envoy + USER_INFO + query.format_map(tokens)
    with chain.client() as client:
        response = client.post(url, json={}, headers=with_tokens(headers, tokens))
    assert subject_or_status(response) == expected, response.text


def test_flyte_without_envoy_believes_any_token(chain: Chain, tokens: dict[str, str]) -> None:
    """Why Envoy must be the only way to Flyte."""
    headers = with_tokens([bearer("unsigned")], tokens)
    response = httpx.post(chain.flyte.url + USER_INFO, json={}, headers=headers, trust_env=False)
    assert subject_or_status(response) == "mallory"


@pytest.mark.parametrize(
    "path",
    ["/mcp/../me", "/mcp%2f..%2fme", "//me", "/MCP", "/mcp%0a", "/page/../me", "/health/../me"],
)
def test_skipped_routes_lead_to_no_other_path(chain: Chain, path: str) -> None:
    with chain.client() as client:
        response = client.get(f"{chain.url}{path}")
    assert response.status_code in {301, 302, 401, 404}


def test_page_of_another_site_cannot_use_session(alice: httpx.Client) -> None:
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        for path in ("/tasks/page-tests.greet/runs", "/mcp"):
            assert alice.post(path, json={"inputs": {}}, headers=headers).status_code == 403


def test_sign_out_redirects_to_no_other_site(chain: Chain) -> None:
    erin = chain.signed_in("erin")
    response = erin.get("/oauth2/sign_out?rd=https://evil.example/")
    assert response.headers["Location"] == "/"
    assert erin.get("/me").status_code == 401
    erin.close()


@pytest.mark.parametrize(
    ("flag", "headers", "status", "text"),
    [
        ("--skip-auth-strip-headers=false", [token_header("valid")], 200, "carol"),
        ("--bearer-token-login-fallback=false", [bearer("expired")], 403, "Forbidden"),
        ("--skip-jwt-bearer-tokens=false", [bearer("valid")], 401, "Unauthorized"),
    ],
)
def test_other_option_lets_clients_impersonate_or_locks_agents_out(
    *, chain: Chain, tokens: dict[str, str], flag: str, headers: Headers, status: int, text: str
) -> None:
    """The options that docs/sign-in.md says not to change."""
    with chain.behind(flag) as changed, changed.client() as client:
        response = client.post("/mcp", json=MCP, headers=with_tokens(headers, tokens))
    assert response.status_code == status
    assert text in response.text

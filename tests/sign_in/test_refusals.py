"""Requests that one part of the chain refuses, and those that it serves, each as one caller."""

import base64
import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPSConnection

import httpx
import pytest

from local_flyte.apps import free_port
from local_flyte.serving import listen

from .conftest import Chain

MCP = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "me"}}
USER_INFO = "/flyteidl2.auth.IdentityService/UserInfo"
HEADERS = {"token": "X-Forwarded-Access-Token", "underscores": "x_forwarded_access_token"}
HEADERS |= {"data": "X-Amzn-Oidc-Data", "identity": "X-Amzn-Oidc-Identity", "cookie": "Cookie"}
AUTH_METADATA = "/flyteidl2.auth.AuthMetadataService"
Headers = list[tuple[str, str]]


def status_of(chain: Chain, method: str, url: str, path: str) -> int:
    """Request a path without the normalization of httpx, and return the status."""
    connection = HTTPSConnection(url.removeprefix("https://"), context=chain.trust)
    with closing(connection):
        connection.request(method, path, "{}", {"Content-Type": "application/json"})
        return connection.getresponse().status


@pytest.fixture(scope="module")
def tokens(chain: Chain) -> dict[str, str]:
    """Tokens of carol, by what is wrong with them."""
    mint, past = chain.provider.token, int(time.time()) - 60
    parts = {"alg": "none"}, {"sub": "mallory", "aud": "flyte", "exp": past + 9000}
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts]
    return {
        "valid": mint("carol"),
        "of-dave": mint("dave"),
        "forged": mint("carol", chain.provider.other_key),
        "unsigned": ".".join(part.rstrip("=") for part in encoded) + ".",
        "expired": mint("carol", exp=past),
        "other-audience": mint("carol", aud="other"),
        "id-token": mint("carol", aud="my-flyte-app"),
        "without-email": mint("carol", email=None),
        "large": mint("carol", groups=["g" * 40] * 200),
        "20-kB": "large=" + "x" * 20_000,
        "mallory": "mallory",
    }


@pytest.fixture(scope="module")
def alice(chain: Chain) -> Iterator[httpx.Client]:
    with closing(chain.signed_in("alice")) as client:
        yield client


def headers_of(sent: str, tokens: dict[str, str]) -> Headers:
    """Return headers for a text such as ``Bearer valid, token forged``."""
    words = [part.split(" ") for part in sent.split(", ") if " " in part]
    return [
        (HEADERS[kind], tokens[name])
        if kind in HEADERS
        else ("Authorization", f"{kind} {tokens[name]}")
        for kind, name in words
    ]


# Headers of requests, separated by a bar, by entrance, and by the caller or status that follows.
ENTRANCES: dict[str, dict[str | int, str]] = {
    "oauth2-proxy": {
        401: "|token valid|Bearer forged|Bearer forged, Bearer valid|Bearer unsigned|Bearer expired"
        "|Bearer other-audience|Basic valid|bearer valid",  # RFC 9110 would allow the last
        403: "Bearer id-token",  # from Envoy, because the token is signed, but not for Flyte
        "carol": "Bearer valid|Bearer valid, token of-dave|Bearer valid, Bearer of-dave"
        "|Bearer without-email|Bearer large, cookie 20-kB|session, Bearer valid",
        "alice": "session|session, token valid|session, underscores valid|session, Bearer forged"
        "|session, Basic valid",
    },
    "app": {
        400: "token valid, token of-dave",
        401: "|token forged|token unsigned|token expired|Bearer valid",
        403: "token other-audience",
        "carol": "token valid",
    },
    "envoy": {
        401: "|Bearer forged|Bearer unsigned|Bearer expired|Bearer valid, Bearer of-dave"
        "|bearer valid|Basic valid",
        403: "Bearer id-token",
        "carol": "Bearer valid|Bearer valid, identity mallory|Bearer valid, data unsigned",
    },
    "flyte": {"mallory": "Bearer unsigned"},  # so Envoy must be the only way to Flyte
}


@pytest.mark.parametrize(
    ("entrance", "sent", "expected"),
    [
        (entrance, sent, expected)
        for entrance, responses in ENTRANCES.items()
        for expected, requests in responses.items()
        for sent in requests.split("|")
    ],
)
def test_proxies_and_app_refuse_unverified_and_ambiguous_callers(
    *,
    chain: Chain,
    alice: httpx.Client,
    tokens: dict[str, str],
    entrance: str,
    sent: str,
    expected: str | int,
) -> None:
    headers = headers_of(sent, tokens)
    with chain.client() as client:
        if entrance in {"envoy", "flyte"}:
            url = {"envoy": chain.envoy, "flyte": chain.flyte.url}[entrance]
            response = client.post(url + USER_INFO, json={}, headers=headers)
        else:
            url = {"oauth2-proxy": chain.url, "app": chain.app}[entrance]
            user = alice if "session" in sent else client
            response = user.get(f"{url}/me", headers=headers)
        if (entrance, expected) == ("oauth2-proxy", 401):
            refused = client.post("/mcp", json=MCP, headers=headers)
            metadata = f"{chain.url}/.well-known/oauth-protected-resource/mcp"
            assert refused.headers["WWW-Authenticate"] == f'Bearer resource_metadata="{metadata}"'
    subject = response.json()["subject"] if response.is_success else None
    assert (subject or response.status_code) == expected, response.text


def test_token_in_url_or_cookie_is_ignored(chain: Chain, tokens: dict[str, str]) -> None:
    with chain.client() as client:
        url = f"{chain.envoy}{USER_INFO}?access_token={tokens['valid']}"
        assert client.post(url, json={}).status_code == 401
        cookie = {"Cookie": f"flyte_at={tokens['valid']}"}
        assert client.get(f"{chain.app}/me", headers=cookie).status_code == 401


@pytest.mark.parametrize(
    "path", ["/mcp/../me", "/mcp%2f..%2fme", "//me", "/MCP", "/mcp%0a", "/page/../me"]
)
def test_path_similar_to_public_path_requires_sign_in(chain: Chain, path: str) -> None:
    assert status_of(chain, "GET", chain.url, path) in {301, 302, 401}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"{AUTH_METADATA}/GetPublicClientConfig", 200),
        (f"/{AUTH_METADATA}/GetPublicClientConfig", 200),
        ("/.well-known/oauth-authorization-server", 404),  # the local Flyte server has none
        (f"{AUTH_METADATA}/..{USER_INFO}", 401),
        (f"{AUTH_METADATA}/..%2f{USER_INFO[1:]}", 400),
    ],
)
def test_envoy_serves_only_sign_in_metadata_without_token(
    chain: Chain, path: str, status: int
) -> None:
    assert status_of(chain, "POST", chain.envoy, path) == status


@pytest.mark.parametrize(
    ("option", "start"), [("--http2", b"PRI * HTTP/2.0"), ("--http1.1", b"POST /")]
)
def test_envoy_calls_flyte_with_protocol_of_client(chain: Chain, option: str, start: bytes) -> None:
    edits = {"[h2, http/1.1]": "[h2, http/1.1]"}  # as on the page
    headers = ["--header", f"Authorization: Bearer {chain.provider.token('carol')}"]
    with listen() as flyte:
        edits[f"flyte_port {chain.flyte.port}"] = f"flyte_port {flyte.getsockname()[1]}"
        with chain.with_envoy(free_port(), edits) as changed:
            url = changed.envoy + USER_INFO
            command = ["curl", "--silent", "--insecure", option, *headers, "--json", "{}", url]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL):
                connection, _ = flyte.accept()
                with connection:
                    assert connection.recv(1000).startswith(start)


def test_page_of_another_site_cannot_use_session(alice: httpx.Client) -> None:
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        for path in ("/tasks/page-tests.greet/runs", "/mcp"):
            assert alice.post(path, json={"inputs": {}}, headers=headers).status_code == 403


def test_browser_without_sec_fetch_site_can_use_session(chain: Chain, alice: httpx.Client) -> None:
    """The gateway routes by host, so the app does not get the host in ``Origin``."""
    body = {"inputs": {"name": "Ada"}}
    made = alice.post("/tasks/page-tests.greet/runs", json=body, headers={"Origin": chain.url})
    assert made.status_code == 201, made.text


def test_sign_out_also_ends_session_at_provider(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain.provider, "remembers_users", True)
    with closing(chain.signed_in("erin")) as erin:
        sign_out = erin.get("/me").json()["sign_out"]
        for visited in (f"{chain.url}/", f"{chain.provider.issuer}/authorize"):
            again = erin.get("/oauth2/start?rd=/", follow_redirects=True)
            assert str(again.url.copy_with(query=None)) == visited
            assert erin.get(sign_out, follow_redirects=True).text == "signed out"
            assert erin.get("/me").status_code == 401


def test_sign_out_redirects_to_no_other_site(chain: Chain) -> None:
    with closing(chain.signed_in("erin")) as erin:
        response = erin.get("/oauth2/sign_out?rd=https://evil.example/")
        assert response.headers["Location"] == "/"
        assert erin.get("/me").status_code == 401


def test_unverified_email_is_served_only_with_option(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain.provider, "email_verified", False)
    bearer = {"Authorization": f"Bearer {chain.provider.token('carol')}"}
    with chain.client() as client:
        form = client.get("/", follow_redirects=True)
        callback = client.post(form.url, data={"sub": "alice"}, follow_redirects=True)
        assert (callback.url.path, callback.status_code) == ("/oauth2/callback", 403)
        refused = client.get("/me", headers=bearer)
        assert (refused.status_code, refused.json()) == (401, {})
    (log,) = chain.folder.glob(f"oauth2-proxy-{httpx.URL(chain.url).port}.log")
    assert "isn't verified" in log.read_text("utf-8")
    (option,) = re.findall(r"^# (\w+ = true)$", chain.page_file("oauth2-proxy.cfg"), re.MULTILINE)
    flag = "--" + option.replace("_", "-").replace(" ", "")
    with (
        chain.behind(flag) as changed,
        closing(changed.signed_in("alice")) as alice,
        changed.client() as client,
    ):
        assert alice.get("/me").json()["subject"] == "alice"
        assert client.get("/me", headers=bearer).json()["subject"] == "carol"


@pytest.mark.parametrize(
    ("flag", "sent", "status", "text"),
    [
        ("--skip-auth-strip-headers=false", "token valid", 200, "carol"),
        ("--bearer-token-login-fallback=false", "Bearer expired", 403, "Forbidden"),
        ("--skip-jwt-bearer-tokens=false", "Bearer valid", 401, "Unauthorized"),
        ("--allowed-group=staff", "Bearer valid", 200, "carol"),  # although she is not in it
    ],
)
def test_discouraged_oauth2_proxy_option_has_documented_effect(
    *, chain: Chain, tokens: dict[str, str], flag: str, sent: str, status: int, text: str
) -> None:
    """docs/sign-in.md says not to change or to use these options, because of `/mcp`."""
    with chain.behind(flag) as changed, changed.client() as client:
        response = client.post("/mcp", json=MCP, headers=headers_of(sent, tokens))
    assert response.status_code == status
    assert text in response.text

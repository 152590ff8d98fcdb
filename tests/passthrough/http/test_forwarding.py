"""Credentials that are forwarded, CORS, and refused requests of other websites."""

from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import Response

from local_flyte.testing import bearer, client_of
from passthrough.http.forwarding import passthrough_middleware
from passthrough.settings import Settings

router = APIRouter()
ELSEWHERE = {"Sec-Fetch-Site": "cross-site", "Origin": "https://elsewhere.example"}
TRUSTED = "https://trusted.example"
SETTINGS = {"trusted_origins": (TRUSTED,), "credential_headers": ("X-Api-Key",)}
MAX_BODY_SIZE = Settings.model_fields["max_body_size"].default
TOKEN = bearer("alice").removeprefix("Bearer ")


@router.get("/things")
@router.post("/things", operation_id="act")
async def things() -> str:
    return "things"


def forwarded(settings: dict[str, Any], pairs: list[tuple[str, str]]) -> Any:
    """Return the credentials that are forwarded, or the status of the refusal."""
    kind, _, options = passthrough_middleware(Settings.model_construct(**settings))
    middleware: Any = kind(Response(), **options)
    headers = [(name.lower().encode(), value.encode()) for name, value in pairs]
    try:
        return middleware.credentials(
            {"type": "http", "method": "GET", "path": "", "headers": headers}
        )
    except HTTPException as refused:
        return refused.status_code


SENT = [
    ("cookie", "theme=dark; flyte_at=one"),
    ("Authorization", "Bearer two"),
    ("x-key", "three"),
    ("x-token", " four "),
    ("x-token", ""),
]
DEFAULT = {"cookie": "flyte_at=one", "authorization": "Bearer two"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, DEFAULT),
        ({"cookie_names": None}, DEFAULT | {"cookie": "theme=dark; flyte_at=one"}),
        ({"credential_headers": ("x-key", "x-none")}, DEFAULT | {"x-key": "three"}),
        # A proxy may put another token in Authorization: oauth2-proxy can send the ID token there.
        ({"token_header": "x-token"}, DEFAULT | {"authorization": "Bearer four"}),
        ({"token_header": "x-none"}, {"cookie": "flyte_at=one"}),
        ({"flyte_plaintext": True}, DEFAULT | {"x-flyte-caller": "nobody"}),
    ],
)
def test_settings_select_credential_headers(
    settings: dict[str, Any], expected: dict[str, str]
) -> None:
    assert forwarded(settings, SENT) == expected


@pytest.mark.parametrize("tokens", [["five"], ["six, seven"]])
def test_conflicting_proxy_tokens_are_refused(tokens: list[str]) -> None:
    pairs = [*SENT, *(("x-token", token) for token in tokens)]
    assert forwarded({"token_header": "x-token"}, pairs) == 400


@pytest.mark.parametrize("values", [[], [""]])
def test_authorization_is_ignored_with_token_header(values: list[str]) -> None:
    pairs = [("authorization", "Bearer two"), *(("X-Token", value) for value in values)]
    assert forwarded({"token_header": "X-Token"}, pairs) == 401


def test_proxy_headers_are_ignored_by_default() -> None:
    assert forwarded({}, [("X-Forwarded-Access-Token", "four")]) == 401


@pytest.mark.parametrize("header", ["Authorization", "X-Api-Key", "Cookie"])
def test_cross_site_post_is_403_with_any_credential(url: str, header: str) -> None:
    value = {"Authorization": f"Bearer {TOKEN}", "Cookie": f"flyte_at={TOKEN}"}.get(header, TOKEN)
    # A browser too old for Sec-Fetch-Site still sends an Origin.
    for origin in (ELSEWHERE, {"Origin": ELSEWHERE["Origin"]}):
        with client_of(url, None) as client:
            refused = client.post("/things", headers={**origin, header: value})
        assert refused.status_code == 403
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert "Access-Control-Allow-Origin" not in refused.headers


SEC_FETCH = ("Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest")


@pytest.mark.parametrize(
    ("values", "status"),
    [
        (("cross-site", "no-cors", "image"), 403),  # <img src=...>, timed by its page
        (("cross-site", "navigate", "iframe"), 403),
        (("cross-site", "navigate", "document"), 200),  # a link
        (("same-origin", "cors", "empty"), 200),
    ],
)
def test_cross_site_read_is_403_except_navigation(
    alice: httpx.Client, values: tuple[str, ...], status: int
) -> None:
    """Otherwise another website could measure response times."""
    headers = dict(zip(SEC_FETCH, values, strict=True))
    assert alice.get("/things", headers=headers).status_code == status
    assert alice.get("/health", headers=headers).status_code == 200


def test_preflight_of_untrusted_origin_is_400(alice: httpx.Client) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    for origin, status in ((TRUSTED, 200), (ELSEWHERE["Origin"], 400)):
        assert alice.options("/things", headers={**asked, "Origin": origin}).status_code == status


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, 200),
        (b"", {"Authorization": ""}, 401),
        (bytes(MAX_BODY_SIZE + 1), {}, 413),  # which nobody reads
        (bytes(MAX_BODY_SIZE + 1), {"Authorization": ""}, 401),
    ],
    ids=["", "no credentials", "body", "body without credentials"],
)
def test_trusted_origin_can_read_successes_and_errors(
    alice: httpx.Client, body: bytes, headers: dict[str, str], status: int
) -> None:
    all_headers = {"Origin": TRUSTED, "Sec-Fetch-Site": "cross-site", **headers}
    response = alice.post("/things", content=body, headers=all_headers)
    assert response.status_code == status
    assert response.headers["Access-Control-Allow-Origin"] == TRUSTED
    assert response.headers["Access-Control-Allow-Credentials"] == "true"
    assert "WWW-Authenticate" in response.headers["Access-Control-Expose-Headers"]
    assert "Origin" in response.headers["Vary"]

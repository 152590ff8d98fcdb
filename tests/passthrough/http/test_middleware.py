"""Requests that are refused, and credentials that are taken."""

from collections.abc import AsyncGenerator, Iterator
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Request, WebSocket
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.exceptions import HTTPException
from starlette.responses import Response
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from local_flyte import LocalFlyte
from local_flyte.testing import bearer, client_of, serving
from passthrough.http.exchange import HEADERS
from passthrough.http.middleware import passthrough_middleware
from passthrough.settings import Settings

from ..support import build_app

router = APIRouter()


def forwarded(settings: dict[str, Any], sent: list[tuple[str, str]]) -> Any:
    """Return the credentials that are forwarded, or the status of the refusal."""
    kind, _, options = passthrough_middleware(Settings.model_construct(**settings))
    middleware: Any = kind(Response(), **options)
    headers = [(name.lower().encode(), value.encode()) for name, value in sent]
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
def test_the_settings_decide_where_credentials_come_from(
    settings: dict[str, Any], expected: dict[str, str]
) -> None:
    assert forwarded(settings, SENT) == expected


@pytest.mark.parametrize("tokens", [["five"], ["six, seven"]])
def test_two_different_tokens_of_a_proxy_are_refused(tokens: list[str]) -> None:
    sent = [*SENT, *(("x-token", token) for token in tokens)]
    assert forwarded({"token_header": "x-token"}, sent) == 400


@pytest.mark.parametrize("values", [[], [""]])
def test_without_the_proxys_header_authorization_is_ignored(values: list[str]) -> None:
    sent = [("authorization", "Bearer two"), *(("X-Token", value) for value in values)]
    assert forwarded({"token_header": "X-Token"}, sent) == 401


def test_by_default_no_proxy_is_trusted() -> None:
    assert forwarded({}, [("X-Forwarded-Access-Token", "four")]) == 401


LARGEST = Settings.model_fields["max_body_size"].default
TRUSTED = "https://trusted.example"
ELSEWHERE = {"Sec-Fetch-Site": "cross-site", "Origin": "https://elsewhere.example"}
TOKEN = bearer("alice").removeprefix("Bearer ")


@router.get("/things")
@router.post("/things", operation_id="act")
async def things() -> str:
    return "things"


@router.get("/events", response_class=EventSourceResponse)
async def events() -> AsyncGenerator[ServerSentEvent]:
    yield ServerSentEvent(data=1)


@router.post("/read-more", max_body_size=2 * LARGEST, operation_id="read_more")
@router.post("/read")
async def read(request: Request) -> int:
    return len(await request.body())


@router.get("/own")
async def own(project: str = "") -> str:
    return project


@router.websocket("/watch")
async def watch(websocket: WebSocket) -> None:
    await websocket.accept()


@pytest.fixture(scope="module")
def url(local_flyte: LocalFlyte) -> Iterator[str]:
    """The URL of an app that trusts the pages of one other origin."""
    changed: dict[str, Any] = {"trusted_origins": (TRUSTED,), "credential_headers": ("X-Api-Key",)}
    with serving(build_app(router, **changed)) as url:
        yield url


def of_everywhere(headers: Any) -> dict[str, str]:
    return {name: headers[name] for name in HEADERS}


@pytest.mark.parametrize(
    ("path", "status"), [("/things", 200), ("/events", 200), ("/openapi.json", 200), ("/none", 404)]
)
def test_no_response_can_be_framed_cached_or_sniffed(
    alice: httpx.Client, path: str, status: int
) -> None:
    response = alice.get(path)
    assert response.status_code == status
    assert of_everywhere(response.headers) == HEADERS


def test_an_owner_may_add_headers_and_change_ours(local_flyte: LocalFlyte) -> None:
    added = {"Strict-Transport-Security": "max-age=1", "Referrer-Policy": "same-origin"}
    with serving(build_app(router, headers=added)) as url, client_of(url, "alice") as client:
        for path in ("/things", "/events", "/health", "/none"):
            sent = client.get(path).headers
            assert {name: sent[name] for name in added} == added


def test_a_query_has_a_limited_length(alice: httpx.Client, anonymous: httpx.Client) -> None:
    assert alice.get("/things?" + "x" * 8192).status_code == 200
    for path in ("/things?", "/health?"):
        refused = anonymous.get(path + "x" * 8193)
        assert (refused.status_code, refused.json()["title"]) == (414, "Request-URI Too Long")


JSON = {"Content-Type": "application/json"}  # whose values are counted


@pytest.mark.parametrize(
    ("path", "settings"), [("/read", {"max_body_size": 2 * LARGEST}), ("/read-more", {})]
)
def test_the_owner_may_allow_larger_bodies_everywhere_or_on_one_route(
    local_flyte: LocalFlyte, path: str, settings: dict[str, Any]
) -> None:
    with serving(build_app(router, **settings)) as url, client_of(url, "alice") as client:
        largest = bytes(2 * LARGEST)
        assert client.post(path, content=largest, headers=JSON).is_success
        for content in (largest + b"x", iter((largest, b"x"))):
            refused = client.post(path, content=content, headers=JSON)
            assert refused.status_code == 413
            assert refused.json()["detail"] == "the body of the request is too large"
            assert of_everywhere(refused.headers) == HEADERS


def test_openapi_has_the_project_and_domain_of_each_endpoint_once(alice: httpx.Client) -> None:
    paths = alice.get("/openapi.json").json()["paths"]
    for path in ("/own", "/things"):
        named = [each["name"] for each in paths[path]["get"]["parameters"]]
        assert named == ["project", "domain"], path
    assert "parameters" not in paths["/health"]["get"]


@pytest.mark.parametrize("header", ["Authorization", "X-Api-Key", "Cookie"])
def test_a_page_of_another_site_cannot_change_anything_with_any_credential(
    url: str, header: str
) -> None:
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
def test_a_page_of_another_site_may_link_to_the_app_but_cannot_time_its_responses(
    alice: httpx.Client, values: tuple[str, ...], status: int
) -> None:
    sent = dict(zip(SEC_FETCH, values, strict=True))
    assert alice.get("/things", headers=sent).status_code == status
    assert alice.get("/health", headers=sent).status_code == 200


@pytest.mark.parametrize("options", [{}, {"ws": "auto"}], ids=["as deployed", "by hand"])
def test_no_websocket_is_accepted(local_flyte: LocalFlyte, options: dict[str, Any]) -> None:
    """Nor is a handshake served as a GET: browsers send it with cookies, for any page."""
    sent: Any = {"additional_headers": {"Authorization": bearer("alice")}, "proxy": None}
    with serving(build_app(router), **options) as url:
        for path in ("/watch", "/things"):
            with pytest.raises(InvalidStatus) as refused:
                connect(f"ws{url[4:]}{path}", **sent, open_timeout=60)
            assert refused.value.response.status_code == 403


def test_only_a_trusted_origin_passes_a_preflight(alice: httpx.Client) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    for origin, status in ((TRUSTED, 200), (ELSEWHERE["Origin"], 400)):
        assert alice.options("/things", headers={**asked, "Origin": origin}).status_code == status


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, 200),
        (b"", {"Authorization": ""}, 401),
        (bytes(LARGEST + 1), {}, 413),  # which nobody reads
        (bytes(LARGEST + 1), {"Authorization": ""}, 401),
    ],
    ids=["", "no credentials", "body", "body without credentials"],
)
def test_a_trusted_origin_can_read_successes_and_errors(
    alice: httpx.Client, body: bytes, headers: dict[str, str], status: int
) -> None:
    sent = {"Origin": TRUSTED, "Sec-Fetch-Site": "cross-site", **headers}
    response = alice.post("/things", content=body, headers=sent)
    assert response.status_code == status
    assert response.headers["Access-Control-Allow-Origin"] == TRUSTED
    assert response.headers["Access-Control-Allow-Credentials"] == "true"
    assert "WWW-Authenticate" in response.headers["Access-Control-Expose-Headers"]
    assert "Origin" in response.headers["Vary"]

"""Limits of requests, and the refusal of WebSockets."""

from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Request, WebSocket
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from local_flyte import LocalFlyte
from local_flyte.testing import bearer, client_of, serving
from passthrough.http.headers import HEADERS
from passthrough.settings import Settings

from ..support import build_app

router = APIRouter()


LARGEST = Settings.model_fields["max_body_size"].default


@router.get("/things")
async def things() -> str:
    return "things"


@router.post("/read-more", max_body_size=2 * LARGEST, operation_id="read_more")
@router.post("/read")
async def read(request: Request) -> int:
    return len(await request.body())


@router.websocket("/watch")
async def watch(websocket: WebSocket) -> None:
    await websocket.accept()


def test_long_query_is_414(alice: httpx.Client, anonymous: httpx.Client) -> None:
    assert alice.get("/things?" + "x" * 8192).status_code == 200
    for path in ("/things?", "/health?"):
        refused = anonymous.get(path + "x" * 8193)
        assert (refused.status_code, refused.json()["title"]) == (414, "Request-URI Too Long")


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("path", "settings"), [("/read", {"max_body_size": 2 * LARGEST}), ("/read-more", {})]
)
def test_body_limit_is_configurable_per_app_or_route(
    local_flyte: LocalFlyte, path: str, settings: dict[str, Any]
) -> None:
    with serving(build_app(router, **settings)) as url, client_of(url, "alice") as client:
        largest = bytes(2 * LARGEST)
        assert client.post(path, content=largest, headers=JSON).is_success
        for content in (largest + b"x", iter((largest, b"x"))):
            refused = client.post(path, content=content, headers=JSON)
            assert refused.status_code == 413
            assert refused.json()["detail"] == "the body of the request is too large"
            assert refused.headers.items() >= HEADERS.items()


@pytest.mark.parametrize("options", [{}, {"ws": "auto"}], ids=["as deployed", "by hand"])
def test_websocket_is_403(local_flyte: LocalFlyte, options: dict[str, Any]) -> None:
    """No handshake is served as a GET, because browsers send it with cookies for any page."""
    client_options: Any = {"additional_headers": {"Authorization": bearer("alice")}, "proxy": None}
    with serving(build_app(router), **options) as url:
        for path in ("/watch", "/things"):
            with pytest.raises(InvalidStatus) as refused:
                connect(f"ws{url[4:]}{path}", **client_options, open_timeout=60)
            assert refused.value.response.status_code == 403

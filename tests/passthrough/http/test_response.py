"""How responses are sent to slow clients, and what is logged of responses that are incomplete."""

import logging
from collections.abc import Callable

import httpx
import pytest
from fastapi import APIRouter, Response
from starlette.types import Receive, Scope, Send

from local_flyte.testing import wait_until
from passthrough.http import response

from ..support import connected, head

router = APIRouter()
UVICORN_LOGGER = logging.getLogger("uvicorn.error")


@router.get("/large")
async def large() -> Response:
    return Response(bytes(10_000_000))


class Unfinished(Response):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begins", "more_body": True})


@router.get("/unfinished")
async def unfinished() -> Response:
    return Unfinished()


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """Return what the app and the server have logged."""
    for logger in (UVICORN_LOGGER, logging.getLogger("app.access")):
        monkeypatch.setattr(logger, "propagate", True)
        caplog.set_level(logging.INFO, logger.name)
    return lambda: caplog.text


def test_given_up_response_logs_no_error(
    url: str, monkeypatch: pytest.MonkeyPatch, logged: Callable[[], str]
) -> None:
    monkeypatch.setattr(response, "UNREAD_SECONDS", 0.2)
    with connected(url, head("/large"), 4096):
        wait_until(lambda: "GET /large 200 " in logged())
    assert "ERROR" not in logged()


def test_incomplete_response_is_logged_once(alice: httpx.Client, logged: Callable[[], str]) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        alice.get("/unfinished")
    wait_until(lambda: "GET /unfinished 200 " in logged())
    assert logged().count("ERROR") == 1
    assert "RuntimeError: the response is incomplete" in logged()

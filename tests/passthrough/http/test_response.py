"""Tests of responses to slow clients, and of incomplete responses."""

import gc
import itertools
import logging
import socket
from collections.abc import Callable
from contextlib import suppress

import httpx
import pytest
from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from local_flyte.testing import wait_until
from passthrough.http import response
from passthrough.http.server import Protocol

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


def running_connections() -> list[Protocol]:
    """Return the open connections with an incomplete response."""
    connections = [item for item in gc.get_objects() if isinstance(item, Protocol)]
    return [one for one in connections if one._running and not one._running.response_complete]


@router.get("/endless")
def endless() -> StreamingResponse:
    return StreamingResponse(itertools.repeat(b"x" * 65536))


def test_half_closed_connection_ends_unread_stream(url: str, logged: Callable[[], str]) -> None:
    with connected(url, head("/endless"), 4096) as slow:
        assert slow.recv(12) == b"HTTP/1.1 200"
        wait_until(lambda: any(one.flow.write_paused for one in running_connections()))
        slow.shutdown(socket.SHUT_WR)
        wait_until(lambda: "GET /endless 200 " in logged(), 5)  # `UNREAD_SECONDS` is 10


def test_connection_with_unread_large_response_is_closed(
    url: str, alice: httpx.Client, monkeypatch: pytest.MonkeyPatch, logged: Callable[[], str]
) -> None:
    """Other clients are served meanwhile, and no error is logged."""
    monkeypatch.setattr(response, "UNREAD_SECONDS", 0.2)
    with connected(url, head("/large"), 4096) as slow:
        assert slow.recv(12) == b"HTTP/1.1 200"
        assert len(alice.get("/large").content) == 10_000_000
        wait_until(lambda: logged().count("GET /large 200 ") == 2)  # the app has ended both
        wait_until(lambda: not running_connections())
        received = 0
        with suppress(ConnectionError):
            while part := slow.recv(1 << 16):
                received += len(part)
        assert received < 10_000_000
    assert "ERROR" not in logged()


def test_incomplete_response_is_logged_once(alice: httpx.Client, logged: Callable[[], str]) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        alice.get("/unfinished")
    wait_until(lambda: "GET /unfinished 200 " in logged())
    assert logged().count("ERROR") == 1
    assert "RuntimeError: the response is incomplete" in logged()

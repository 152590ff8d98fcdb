"""Tests on uvicorn, with both parsers and both event loops."""

import json
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from .harness import DEADLINE, IS_ALICE, Class, echo_credentials, serve

LARGE = b"x" * 300_000
"""Larger than the buffer of uvicorn (64 KiB)."""


@pytest.fixture(
    scope="module",
    params=[(loop, http) for loop in ("asyncio", "uvloop") for http in ("h11", "httptools")],
    ids="-".join,
)
def port(either: Class, request: pytest.FixtureRequest) -> Iterator[int]:
    """Serve the class with each combination of event loop and parser; yield the port."""
    loop, http = request.param
    covered = either(echo_credentials, None, {"/health", "/open-websocket"})

    async def siblings(scope: Scope, receive: Receive, send: Send) -> None:
        await (echo_credentials if scope["path"] == "/beside" else covered)(scope, receive, send)

    with serve(siblings, loop=loop, http=http) as port:
        yield port


@pytest.fixture
def connection(port: int) -> Iterator[HTTPConnection]:
    """Open a connection, without reconnecting after the server closes it."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=DEADLINE)) as connection:
        connection.connect()
        connection.auto_open = False
        yield connection


@pytest.mark.parametrize("path", ["/health", "/beside", "/open-websocket"])
def test_request_after_upload_on_connection_has_no_credentials(
    connection: HTTPConnection, path: str
) -> None:
    def ask(method: str, path: str, *rest: Any) -> Any:
        connection.request(method, path, *rest)
        return json.load(connection.getresponse())

    assert ask("POST", "/upload", LARGE, IS_ALICE) == IS_ALICE
    if path == "/open-websocket":
        with connect("ws://app.example.com/open-websocket", sock=connection.sock) as websocket:
            assert websocket.recv() == "{}"
    else:
        assert ask("GET", path) == {}


def test_websocket_without_credentials_is_refused_in_handshake(port: int) -> None:
    with pytest.raises(InvalidStatus) as refusal, connect(f"ws://127.0.0.1:{port}/ws"):
        pass
    result = refusal.value.response
    assert (result.status_code, result.headers["www-authenticate"]) == (401, "Bearer")
    assert result.body == b'{"detail":"Authentication credentials required"}'

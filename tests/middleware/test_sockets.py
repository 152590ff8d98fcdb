"""Tests on a real server: uvicorn, with both parsers, on both event loops, byte by byte."""

from collections.abc import Iterator

import pytest
from starlette.types import Receive, Scope, Send

from .harness import (
    Class,
    Connection,
    message,
    reply,
    serve,
    who,
)

ALICE = "Authorization: Bearer alice"
BOB = "Authorization: Bearer bob"
LARGE = b"x" * 300_000
"""More than uvicorn buffers before it stops reading from the socket (64 KiB)."""


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer every request with its own credentials, after reading the whole body."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": who()})
        await send({"type": "websocket.close", "code": 1000})
        return
    while (await receive()).get("more_body", False):
        pass
    await reply(send, who().encode())


@pytest.fixture(
    scope="module",
    params=[(loop, http) for loop in ("asyncio", "uvloop") for http in ("h11", "httptools")],
    ids="-".join,
)
def port(either: Class, request: pytest.FixtureRequest) -> Iterator[int]:
    """The class on each combination of event loop and parser in uvicorn."""
    loop, http = request.param
    covered = either(app, None, {"/health", "/open-websocket"})

    async def siblings(scope: Scope, receive: Receive, send: Send) -> None:
        await (app if scope["path"] == "/beside" else covered)(scope, receive, send)

    with serve(siblings, loop=loop, http=http) as port:
        yield port


@pytest.mark.parametrize("path", ["/health", "/beside", "/open-websocket"])
def test_after_a_large_upload_the_next_request_has_no_credentials(port: int, path: str) -> None:
    with Connection(port) as connection:
        upload = connection.ask("POST", "/upload", ALICE, body=LARGE)
        assert (upload.status, upload.body) == (200, b"Bearer alice")
        if path == "/open-websocket":
            assert connection.open_websocket(path).status == 101
            assert connection.read_text_frame() == "nobody"
        else:
            assert connection.ask("GET", path).body == b"nobody"


def test_a_pipelined_request_has_no_credentials(port: int) -> None:
    with Connection(port) as connection:
        connection.send(message("GET", "/", ALICE) + message("GET", "/health"))
        assert connection.read_response().body == b"Bearer alice"
        assert connection.read_response().body == b"nobody"


def test_a_pipelined_request_behind_an_upload_has_no_credentials(port: int) -> None:
    with Connection(port) as connection:
        connection.send(message("POST", "/", ALICE, body=LARGE))
        connection.send(message("GET", "/health") + message("GET", "/", BOB))
        bodies = [connection.read_response().body for _ in range(3)]
        bodies += [connection.ask("GET", "/health").body]
        assert bodies == [b"Bearer alice", b"nobody", b"Bearer bob", b"nobody"]


def test_a_websocket_is_refused_in_the_handshake(port: int) -> None:
    with Connection(port) as connection:
        answer = connection.open_websocket("/ws")
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.body == b'{"detail":"Authentication credentials required"}'

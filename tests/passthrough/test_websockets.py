"""WebSockets that only the app sends on: messages from clients take almost no work."""

import asyncio
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from pkgutil import resolve_name

import pytest
import uvicorn
from fastapi import APIRouter, WebSocket
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from local_flyte import LocalFlyte
from passthrough.requests.lifetime import only_sending
from passthrough.requests.serving import COMMAND_LINE, UVICORN

from ..baking import run
from .support import bearer, build_app, serving, wait_until

router = APIRouter()
ended = threading.Event()
HEADERS = {"Authorization": bearer("alice")}


@router.websocket("/watch")
async def watch(websocket: WebSocket) -> None:
    ended.clear()
    try:
        async with only_sending(websocket):
            await websocket.send_text("seen")
            await asyncio.sleep(3600)
    finally:
        ended.set()


@pytest.fixture
def connection(local_flyte: LocalFlyte) -> Iterator[ClientConnection]:
    """A WebSocket that has received a message."""
    with (
        serving(build_app(router)) as url,  # stops only when no request is left
        connect(
            f"ws{url[4:]}/watch", additional_headers=HEADERS, proxy=None, open_timeout=60
        ) as websocket,
    ):
        assert websocket.recv() == "seen"
        yield websocket


@pytest.mark.parametrize("said", ["hello", "", b"\x00"])
def test_a_client_that_sends_a_message_is_disconnected(
    connection: ClientConnection, said: str | bytes
) -> None:
    connection.send(said)
    with pytest.raises(ConnectionClosed):
        connection.recv(timeout=60)
    assert connection.close_code == 1008
    wait_until(ended.is_set)


def test_a_large_message_is_refused_and_none_is_compressed(connection: ClientConnection) -> None:
    assert connection.protocol.extensions == []
    connection.send("x" * (UVICORN["ws_max_size"] + 1))
    with pytest.raises(ConnectionClosed):
        connection.recv(timeout=60)
    assert connection.close_code in {1009, 1008}
    wait_until(ended.is_set)


@pytest.mark.parametrize("frame", [b"\x89\x80", b"\x01\x80", b"\x00\x80"])
def test_a_flood_of_pings_or_of_empty_frames_is_cut_off(
    connection: ClientConnection, frame: bytes
) -> None:
    ping, begins = b"\x89\x80", b"\x01\x80\0\0\0\0"
    flood = begins * (frame != ping) + (frame + b"\0\0\0\0") * 10_000
    with suppress(OSError):  # it is cut off before everything is sent
        connection.socket.sendall(flood)
    with pytest.raises(ConnectionClosed):
        connection.recv(timeout=60)
    wait_until(ended.is_set)


def test_every_way_to_start_the_app_has_the_same_limits(default_project: Path) -> None:
    context = uvicorn.main.make_context("uvicorn", [*COMMAND_LINE.split(), "app.main:app"])
    given = {name: context.params[name] for name in UVICORN}
    assert given | {"ws": resolve_name(given["ws"])} == UVICORN
    started = (
        "import deployment; config = deployment.app_env.uvicorn_config;"
        "print(config.ws.__name__, config.ws_max_size, config.timeout_keep_alive)"
    )
    printed = run([sys.executable, "-c", started], default_project)
    assert printed.split()[-3:] == ["WebSocketProtocol", "4096", "120"]
    development = (default_project / "local_flyte" / "__main__.py").read_text("utf-8")
    assert "*COMMAND_LINE.split()" in development


def test_nothing_remains_when_a_websockets_client_leaves(connection: ClientConnection) -> None:
    connection.close()
    wait_until(ended.is_set)


def test_its_headers_are_not_logged(
    url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("uvicorn", "uvicorn.error"):  # which another test's server may have configured
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
        caplog.set_level(logging.DEBUG, logger=name)
    with (
        connect(
            f"ws{url[4:]}/watch", additional_headers=HEADERS, proxy=None, open_timeout=60
        ) as websocket,
    ):
        websocket.recv()
    server = [r.getMessage() for r in caplog.records if r.name.startswith("uvicorn")]
    assert server
    assert HEADERS["Authorization"] not in "\n".join(server)


def test_a_refusal_is_not_logged_as_an_error(
    url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("uvicorn"), "propagate", True)
    with pytest.raises(InvalidStatus), connect(f"ws{url[4:]}/watch", proxy=None, open_timeout=60):
        pass
    assert [each for each in caplog.records if each.name.startswith("uvicorn")] == []

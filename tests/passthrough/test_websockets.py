"""WebSockets: uvicorn's limits on messages from clients, and what uvicorn logs."""

import asyncio
import logging
from collections import Counter

import pytest
import uvicorn
from fastapi import APIRouter, WebSocket
from template import ROOT
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from local_flyte import LocalFlyte
from local_flyte.testing import bearer, serving, wait_until
from passthrough.http.serving import COMMAND_LINE, UVICORN
from passthrough.limits import MAX_FRAME_BYTES_AT_ONCE

from ..baking import PROJECT
from .faulty import WEBSOCKET, connected, head
from .support import build_app

router = APIRouter()
HEADERS = {"Authorization": bearer("alice")}


@router.websocket("/watch")
async def watch(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("seen")
    await websocket.send_text(await websocket.receive_text())


def test_a_large_message_is_refused_and_none_is_compressed(url: str) -> None:
    with connect(f"ws{url[4:]}/watch", additional_headers=HEADERS, proxy=None) as connection:
        assert connection.recv() == "seen"
        assert connection.protocol.extensions == []
        connection.send("x" * (UVICORN["ws_max_size"] + 1))
        with pytest.raises(ConnectionClosed):
            connection.recv(timeout=60)
        assert connection.close_code == 1009


PING, START = b"\x89\x80\0\0\0\0", b"\x01\x81\0\0\0\0x"
EMPTY, END = b"\x00\x80\0\0\0\0", b"\x80\x81\0\0\0\0y"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_others_are_served_between_many_small_frames(
    loop: str, local_flyte: LocalFlyte, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns, parsed, parts, parse = 0, Counter[int](), 0, WebSocketsSansIOProtocol.data_received

    def counting(protocol: WebSocketsSansIOProtocol, data: bytes) -> None:
        nonlocal parts
        if not turns:
            turn()
        parse(protocol, data)
        parsed[turns] += len(data)
        parts = max(parts, len(protocol.frames))

    def turn() -> None:
        nonlocal turns
        turns += 1
        asyncio.get_running_loop().call_soon(turn)

    monkeypatch.setattr(WebSocketsSansIOProtocol, "data_received", counting)
    with (
        serving(build_app(router), loop=loop) as url,
        connect(f"ws{url[4:]}/watch", additional_headers=HEADERS, proxy=None) as connection,
    ):
        assert connection.recv() == "seen"
        connection.socket.sendall(PING * 10_000 + START + EMPTY * 10_000 + END)
        assert connection.recv() == "xy"
    assert sum(parsed.values()) > 120_000
    assert max(parsed.values()) <= 2 * MAX_FRAME_BYTES_AT_ONCE
    assert parts <= 2


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ([], 101),
        ([f"x{n}: {'y' * 7000}" for n in range(4)], 101),
        ([f"x: {'y' * 9000}"], 400),
        (["x: y"] * 200, 400),
        (["Content-Length: 1"], 400),
    ],
    ids=["none", "many bytes", "a long header", "many headers", "a body"],
)
def test_a_handshake_is_answered_even_if_it_is_too_large(
    url: str, more: list[str], status: int
) -> None:
    with connected(url, head("/watch", *WEBSOCKET, *more)) as client:
        answer = client.makefile("rb")
        assert answer.readline().split()[1] == str(status).encode()
        if status == 400:
            answer.read()  # until the connection is closed


def test_a_client_who_takes_no_answers_to_its_pings_gets_no_more(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    most, arrived, parse = 0, 0, WebSocketsSansIOProtocol.data_received

    def measuring(protocol: WebSocketsSansIOProtocol, data: bytes) -> None:
        nonlocal most, arrived
        parse(protocol, data)
        most = max(most, protocol.transport.get_write_buffer_size())
        arrived += len(data)

    monkeypatch.setattr(WebSocketsSansIOProtocol, "data_received", measuring)
    pings = (b"\x89\xfd" + bytes(4 + 125)) * 20_000
    with connected(url, head("/watch", *WEBSOCKET), 4096) as client:
        assert client.recv(12) == b"HTTP/1.1 101"
        client.sendall(pings)
        wait_until(lambda: arrived > len(pings))
    assert most < len(pings) / 20


def test_every_way_to_start_the_app_has_the_same_limits() -> None:
    context = uvicorn.main.make_context("uvicorn", [*COMMAND_LINE.split(), "app.main:app"])
    assert {name: context.params[name] for name in UVICORN} == UVICORN
    ways = {"deployment.py": "**UVICORN", "local_flyte/__main__.py": "*COMMAND_LINE."}
    for file, use in ways.items():
        assert use in (ROOT / PROJECT / file).read_text("utf-8")


def test_neither_its_headers_nor_its_query_nor_a_refusal_is_logged_by_the_server(
    url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("uvicorn", "uvicorn.error"):  # which another test's server may have configured
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
        caplog.set_level(logging.DEBUG, logger=name)
    address = f"ws{url[4:]}/watch?token=secret"
    with connect(address, additional_headers=HEADERS, proxy=None, open_timeout=60) as websocket:
        websocket.recv()
    with pytest.raises(InvalidStatus), connect(address, proxy=None, open_timeout=60):
        pass
    assert [each for each in caplog.records if each.name.startswith("uvicorn")] == []

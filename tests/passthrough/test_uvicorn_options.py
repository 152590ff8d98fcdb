"""What uvicorn's options promise, and that they are the same however the app is started."""

from collections.abc import Iterator
from contextvars import ContextVar

import pytest
import uvicorn
from fastapi import APIRouter, WebSocket
from template import ROOT
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from local_flyte import LocalFlyte
from local_flyte.testing import bearer, serving
from passthrough import UVICORN

from ..baking import PROJECT
from .faulty import connected, head
from .support import build_app

router = APIRouter()
HEADERS = {"Authorization": bearer("alice")}
MARK = ContextVar("mark", default="")


@router.websocket("/watch")
async def watch(websocket: WebSocket) -> None:
    await websocket.accept()
    while True:
        await websocket.send_text(str(len(await websocket.receive_text())))


@router.get("/mark")
async def mark() -> str:
    before = MARK.get()
    MARK.set("left by the request before")
    return before


@pytest.fixture(scope="module")
def url(local_flyte: LocalFlyte) -> Iterator[str]:
    with serving(build_app(router)) as url:
        yield url


def test_a_message_has_up_to_64_kib_and_none_is_compressed(url: str) -> None:
    with connect(f"ws{url[4:]}/watch", additional_headers=HEADERS, proxy=None) as connection:
        assert connection.protocol.extensions == []
        connection.send("x" * 65_536)
        assert connection.recv(timeout=60) == "65536"
        connection.send("x" * 65_537)
        with pytest.raises(ConnectionClosed):
            connection.recv(timeout=60)
        assert connection.close_code == 1009


def test_the_next_request_on_a_connection_finds_nothing_of_the_one_before(url: str) -> None:
    with connected(url, head("/mark") + head("/mark", "Connection: close")) as pipelined:
        answers = pipelined.makefile("rb").read()
    assert answers.count(b'\r\n\r\n""') == 2
    assert b"left by" not in answers


def test_every_way_to_start_the_app_has_the_same_options(monkeypatch: pytest.MonkeyPatch) -> None:
    in_environment = {f"UVICORN_{name}".upper(): str(value) for name, value in UVICORN.items()}
    for name, value in in_environment.items():
        monkeypatch.setenv(name, value)
    main = uvicorn.main.make_context("uvicorn", ["app.main:app"])
    assert {name: main.params[name] for name in UVICORN} == UVICORN
    ways = {"deployment.py": "**UVICORN", "local_flyte/__main__.py": '{f"UVICORN_{name}".upper():'}
    for file, use in ways.items():
        assert use in (ROOT / PROJECT / file).read_text("utf-8")

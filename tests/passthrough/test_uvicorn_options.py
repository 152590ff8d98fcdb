"""uvicorn's options: each test fails if the option that it is about changes."""

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextvars import ContextVar

import pytest
import uvicorn
from fastapi import APIRouter, Request, WebSocket
from template import ROOT
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from local_flyte import LocalFlyte
from local_flyte.testing import bearer, client_of, serving, wait_until
from passthrough import COMMAND_LINE, UVICORN

from ..baking import PROJECT
from .faulty import connected, head
from .support import build_app

router = APIRouter()
HEADERS = {"Authorization": bearer("alice")}
MARK = ContextVar("mark", default="")
entered = threading.Event()


@router.websocket("/watch")
async def watch(websocket: WebSocket) -> None:
    await websocket.accept()
    while True:
        await websocket.send_text(str(len(await websocket.receive_text())))


@router.get("/client")
async def client(request: Request) -> list[str]:
    return [request.client.host if request.client else "", request.url.scheme]


@router.get("/mark")
async def mark() -> str:
    before = MARK.get()
    MARK.set("left by the request before")
    return before


@router.get("/hang")
async def hang() -> None:
    entered.set()
    await asyncio.Event().wait()


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


def test_nobody_can_name_another_address_of_the_client(url: str) -> None:
    sent = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
    with client_of(url, "alice") as alice:
        assert alice.get("/client", headers=sent).json() == ["127.0.0.1", "http"]


def test_uvicorn_has_no_access_log(
    local_flyte: LocalFlyte, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("uvicorn.access"), "propagate", True)
    caplog.set_level(logging.INFO, "uvicorn.access")
    with serving(build_app(router)) as url, client_of(url, "alice") as alice:
        assert alice.get("/client").is_success
    assert [record for record in caplog.records if record.name == "uvicorn.access"] == []


def test_the_next_request_on_a_connection_finds_nothing_of_the_one_before(url: str) -> None:
    with connected(url, head("/mark") + head("/mark", "Connection: close")) as pipelined:
        answers = pipelined.makefile("rb").read()
    assert answers.count(b'\r\n\r\n""') == 2
    assert b"left by" not in answers


class Hurried(asyncio.SelectorEventLoop):
    """An event loop whose clock can be put forward."""

    ahead = 0.0
    latest: "Hurried"

    def __init__(self) -> None:
        super().__init__()
        type(self).latest = self

    def time(self) -> float:
        """Return the time of the loop's clock."""
        return super().time() + self.ahead

    def put_forward(self, seconds: float) -> None:
        """Make this much time pass."""
        passed = threading.Event()

        def put_forward() -> None:  # in the loop: what it is doing is finished before
            self.ahead += seconds
            self.call_later(0, passed.set)  # timers that are due run before it

        self.call_soon_threadsafe(put_forward)
        assert passed.wait(60)


LOOP = f"{__name__}:Hurried"


def test_an_idle_connection_is_kept_for_two_minutes(local_flyte: LocalFlyte) -> None:
    """Longer than proxies do, which then never send a request on a connection that is closing."""
    with serving(build_app(router), loop=LOOP) as url, connected(url, b"") as proxy:
        answers = proxy.makefile("rb")
        for pause in (0, 115):
            Hurried.latest.put_forward(pause)
            proxy.sendall(head("/health"))
            while answers.readline() != b"\r\n":
                pass
            assert answers.read(15) == b'{"status":"ok"}'
        Hurried.latest.put_forward(125)
        assert answers.read() == b""  # the app closes the connection


def test_a_request_may_take_20_seconds_when_the_server_stops(local_flyte: LocalFlyte) -> None:
    config = uvicorn.Config(build_app(router), port=0, log_config=None, loop=LOOP, **UVICORN)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    with connected(url, head("/hang")):
        assert entered.wait(60)
        server.should_exit = True
        wait_until(lambda: not server.servers[0].is_serving())
        Hurried.latest.put_forward(15)
        assert thread.is_alive()
        Hurried.latest.put_forward(10)
        thread.join(60)
        assert not thread.is_alive()


def test_every_way_to_start_the_app_has_the_same_options() -> None:
    context = uvicorn.main.make_context("uvicorn", [*COMMAND_LINE.split(), "app.main:app"])
    assert {name: context.params[name] for name in UVICORN} == UVICORN
    ways = {"deployment.py": "**UVICORN", "local_flyte/__main__.py": "*COMMAND_LINE."}
    for file, use in ways.items():
        assert use in (ROOT / PROJECT / file).read_text("utf-8")

"""The connections to Flyte, and from viewers: the trouble of one caller is nobody else's.

Flyte is behind an nginx that offers HTTP/2, as ingresses do.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from typing import ClassVar

import pytest
import trustme
from fastapi import APIRouter
from flyte import remote

from app.routers import streams
from local_flyte import LocalFlyte, ReceivedCall
from local_flyte.testing import client_of, ended, serving, start, wait_until
from passthrough.http.serving import HttpProtocol
from passthrough.limits import MAX_ARRIVING_HEADER_BYTES, MAX_PIPELINED_REQUESTS

from ..nginx import in_front_of
from .faulty import HOST, WEBSOCKET, Proxy, connected, head
from .support import build_app

TIMEOUT = 3.0  # enough for a call on a busy machine
router = APIRouter()


@router.get("/me")
async def me() -> str:
    return (await remote.User.get.aio()).name()


log: list[str] = []


@router.get("/wait")
async def wait() -> None:
    log.append("began")
    try:
        await asyncio.Event().wait()
    finally:
        log.append("ended")


@pytest.fixture(scope="module")
def wire(local_flyte: LocalFlyte, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """The way to an nginx in front of the local Flyte."""
    folder, authority = tmp_path_factory.mktemp("ingress"), trustme.CA()
    authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    trusted = local_flyte.ca_file.read_bytes() + authority.cert_pem.bytes()
    (folder / "trusted.pem").write_bytes(trusted)
    with (
        in_front_of(folder, local_flyte.port, certificate=folder / "server.pem") as port,
        closing(Proxy(port)) as wire,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("SSL_CERT_FILE", str(folder / "trusted.pem"))
        wire.listen()
        yield wire


@pytest.fixture(scope="module")
def url(wire: Proxy) -> Iterator[str]:
    """The URL of an app that calls Flyte through the nginx."""
    flyte = f"dns:///{HOST}:{wire.port}"
    app = build_app(router, streams.router, flyte_endpoint=flyte, flyte_timeout=TIMEOUT)
    with serving(app) as url:
        yield url


@pytest.fixture(scope="module")
def long_log(local_flyte: LocalFlyte) -> str:
    """The name of a run with a log that is larger than what HTTP/2 reads ahead."""
    return ended(start("tests.shout"))


def viewer(url: str, run: str) -> socket.socket:
    """Connect a viewer of a log who does not read it."""
    return connected(url, head(f"/runs/{run}/logs"), 65536)


def nothing_flows(wire: Proxy) -> bool:
    """Tell whether Flyte has sent data, and nothing more for a second: all buffers are full."""
    before = wire.forwarded
    time.sleep(1)
    return 0 < before == wire.forwarded


def test_viewers_who_do_not_read_a_log_stop_nobody_else(
    *,
    url: str,
    wire: Proxy,
    local_flyte: LocalFlyte,
    long_log: str,
    received: Callable[[], list[ReceivedCall]],
) -> None:
    viewers = 12  # three use up the window of an HTTP/2 connection
    with client_of(url, "alice") as alice:
        assert alice.get("/me").is_success  # so that there is a connection to share
        with ExitStack() as stack:
            for _ in range(viewers):
                stack.enter_context(viewer(url, long_log))
            wait_until(lambda: [call.method for call in received()].count("TailLogs") == viewers)
            wait_until(lambda: nothing_flows(wire))
            assert [alice.get("/me").status_code for _ in range(10)] == [200] * 10
        wait_until(lambda: local_flyte.open_calls("TailLogs") == 0)


def test_connections_that_have_died_cost_a_single_deadline(
    url: str, wire: Proxy, local_flyte: LocalFlyte
) -> None:
    with client_of(url, "alice") as alice, ThreadPoolExecutor(8) as threads:
        with local_flyte.hang("UserInfo"):  # so that each call has a connection
            calls = [threads.submit(alice.get, "/me") for _ in range(8)]
            wait_until(lambda: local_flyte.open_calls("UserInfo") == 8)
        assert all(call.result().is_success for call in calls)
        wire.die()
        assert [alice.get("/me").status_code for _ in range(3)] == [504, 200, 200]


class Impatient(HttpProtocol):
    """Does not wait half a minute for a client."""

    patience = 2
    lost: ClassVar[list[Exception | None]] = []

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)
        super().connection_lost(exc)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux can do this")
def test_a_viewer_who_takes_nothing_is_cut_off_and_one_who_reads_slowly_is_not(
    wire: Proxy,
    local_flyte: LocalFlyte,
    long_log: str,
    received: Callable[[], list[ReceivedCall]],
) -> None:
    app = build_app(streams.router, flyte_endpoint=f"dns:///{HOST}:{wire.port}")
    with (
        serving(app, http=Impatient) as url,
        viewer(url, long_log) as slow,
        viewer(url, long_log),  # who takes nothing
    ):
        wait_until(lambda: [call.method for call in received()].count("TailLogs") == 2)
        while not Impatient.lost:
            assert slow.recv(16 * 1024)
            time.sleep(0.05)
        assert [type(why) for why in Impatient.lost] == [TimeoutError]
        assert slow.recv(16 * 1024)
        wait_until(lambda: local_flyte.open_calls("TailLogs") <= 1)


NEXT = b"GET /health HTTP/1.1\r\nHost: app\r\n\r\n"
UPGRADE = head("/health", *WEBSOCKET)


@pytest.mark.parametrize(
    ("further", "leaves"),
    [(NEXT, True), (UPGRADE, False), (NEXT * (MAX_PIPELINED_REQUESTS + 1), False)],
    ids=["and leaves", "as a WebSocket", "too many"],
)
def test_a_request_ends_although_its_client_has_sent_the_next(
    local_flyte: LocalFlyte, further: bytes, leaves: bool
) -> None:
    log.clear()
    with serving(build_app(router)) as url:  # with a late deadline
        with connected(url, head("/wait")) as client:
            wait_until(lambda: log == ["began"])
            client.sendall(further)
            while not leaves and client.recv(4096):  # until the app closes the connection
                pass
        wait_until(lambda: log == ["began", "ended"], 20)


def test_headers_that_do_not_end_are_not_kept(url: str) -> None:
    arriving = b"GET /health HTTP/1.1\r\nx: " + b"x" * 4 * MAX_ARRIVING_HEADER_BYTES
    with connected(url, arriving) as client, suppress(ConnectionResetError):
        assert client.recv(12) == b"HTTP/1.1 400"

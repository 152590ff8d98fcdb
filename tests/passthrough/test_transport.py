"""Messages of Flyte: their sizes, redirects, and streams that are cut off."""

import os
import resource
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter

from app.routers import streams
from local_flyte import LocalFlyte
from local_flyte.testing import bearer, wait_until
from passthrough.limits import DEFAULTS

from . import naive_endpoints
from .elsewhere import MEBIBYTE, Elsewhere, envelope, lines

pytestmark = pytest.mark.usefixtures("certificate")
router = APIRouter()
router.include_router(streams.router)
router.include_router(naive_endpoints.router)


def test_a_redirect_is_not_followed(
    there: httpx.Client, elsewhere: Elsewhere, plain: Elsewhere
) -> None:
    plain.answers()
    elsewhere.answers(location=f"{plain.address}/sign-in")
    assert there.get("/projects").status_code == 502
    assert elsewhere.received[0]["headers"]["authorization"] == bearer("alice")
    assert plain.received == []


@contextmanager
def little_memory() -> Iterator[None]:
    """Check that the block keeps little of what it receives in memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert used < 64 * 1024, f"{used / 1024:.0f} MiB"


def test_reading_stops_at_an_answer_that_is_too_large(
    there: httpx.Client, elsewhere: Elsewhere
) -> None:
    chunked = {"content-length": 1, "transfer-encoding": "chunked"}
    for headers in ({"content-length": 200 * len(MEBIBYTE)}, {}, chunked):
        elsewhere.answers(*[MEBIBYTE] * 200, **headers)
        with little_memory():
            assert there.get("/whoami").status_code == 413


# Connections


def sockets_to(address: str) -> Iterator[socket.socket]:
    """Yield copies of this process's sockets that are connected to an address."""
    port = int(address.rpartition(":")[2])
    for path in [*Path("/proc/self/fd").iterdir()]:
        with suppress(OSError):  # it has been closed, or it is not connected
            if path.is_socket():
                with socket.socket(fileno=os.dup(int(path.name))) as found:
                    if found.family == socket.AF_INET and found.getpeername()[1] == port:
                        yield found


def test_connections_of_many_calls_at_once_are_used_again(
    alice: httpx.Client, local_flyte: LocalFlyte
) -> None:
    used = []
    with ThreadPoolExecutor(20) as threads:
        for _ in range(2):
            with local_flyte.hang("UserInfo"):
                asked = [threads.submit(alice.get, "/whoami") for _ in range(20)]
                wait_until(lambda: local_flyte.open_calls("UserInfo") == 20)
            assert {answer.result().status_code for answer in asked} == {200}
            used.append({sent.getsockname()[1] for sent in sockets_to(local_flyte.url)})
    assert len(used[0]) >= 20
    assert used[0] == used[1]


def test_a_connection_that_has_died_is_noticed_within_30_seconds(
    alice: httpx.Client, local_flyte: LocalFlyte
) -> None:
    alice.get("/whoami")
    options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    sockets = sockets_to(local_flyte.url)
    sent = next(sockets)
    assert sent.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    idle, interval, probes = (sent.getsockopt(socket.IPPROTO_TCP, each) for each in options)
    assert idle + interval * probes <= 30


# Streams: the local Flyte, with a cluster at the other server


def test_a_message_of_a_stream_that_is_too_large_is_not_read(
    alice: httpx.Client, log: Callable[..., None], greeting: str
) -> None:
    announced = bytes(1) + (200 * len(MEBIBYTE)).to_bytes(4, "big")
    log(lines("one"), announced, *[MEBIBYTE] * 200)
    with little_memory():
        answer = alice.get(f"/runs/{greeting}/log")
    assert answer.status_code == 413
    assert str(DEFAULTS.answer_bytes) in answer.json()["detail"]


def test_all_that_flyte_sends_between_two_messages_to_the_client_has_a_limit(
    alice: httpx.Client, log: Callable[..., None], greeting: str
) -> None:
    log(*[lines("x" * len(MEBIBYTE))] * 10, envelope(b"{}", 2))
    answer = alice.get(f"/runs/{greeting}/log")
    assert answer.status_code == 413
    assert str(DEFAULTS.request_bytes) in answer.json()["detail"]
    streamed = alice.get(f"/runs/{greeting}/logs")
    assert streamed.text.count("x") == 10 * len(MEBIBYTE)


def test_messages_of_a_stream_arrive_whole_however_they_are_split(
    alice: httpx.Client, log: Callable[..., None], greeting: str
) -> None:
    whole = b"".join(lines(f"line {n}") for n in range(30)) + envelope(b"{}", 2)
    log(*(whole[at : at + 7] for at in range(0, len(whole), 7)))
    read = alice.get(f"/runs/{greeting}/log").json()
    assert [line.strip() for line in read] == [f"line {n}" for n in range(30)]


@pytest.mark.parametrize(
    "end",
    [
        (),
        (b"\0\0\0\0\x09half",),
        (envelope(b"{}", 2)[:-1],),
        (envelope(b'{"error": {"code": "unavailable"}}', 2),),
    ],
)
def test_a_log_that_is_cut_off_or_fails_does_not_look_whole_and_is_not_read_again(
    alice: httpx.Client,
    elsewhere: Elsewhere,
    log: Callable[..., None],
    greeting: str,
    end: tuple[bytes, ...],
) -> None:
    log(lines("one"), lines("two", "three"), *end)
    assert alice.get(f"/runs/{greeting}/log").status_code == 503
    assert len(elsewhere.received) == 1
    *told, last = alice.get(f"/runs/{greeting}/logs").text.split("\n\n")[:-1]
    assert told == ["data: one\nid: 1-1", "data: two\nid: 1-2", "data: three\nid: 1-3"]
    assert last.startswith("event: problem\n")
    assert '"status":503' in last.replace(" ", "")

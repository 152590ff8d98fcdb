"""Calls to Flyte: sent once, with a deadline, to no other address; the sizes of its messages."""

import os
import resource
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from itertools import islice
from pathlib import Path

import httpx
import pytest
from connectrpc.code import Code
from fastapi import APIRouter

from app.routers import streams
from local_flyte import LocalFlyte, ReceivedCall
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
    elsewhere.answers(*[MEBIBYTE] * 200)
    with little_memory():
        assert there.get("/whoami").status_code == 413


def ports_to(address: str) -> set[int]:
    """Return the ports of this process's sockets that are connected to an address."""
    port, ports = int(address.rpartition(":")[2]), set[int]()
    for path in [*Path("/proc/self/fd").iterdir()]:
        with suppress(OSError):  # it has been closed, or it is not connected
            if path.is_socket():
                with socket.socket(fileno=os.dup(int(path.name))) as found:
                    if found.family == socket.AF_INET and found.getpeername()[1] == port:
                        ports.add(found.getsockname()[1])
    return ports


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
            used.append(ports_to(local_flyte.url))
    assert len(used[0]) >= 20
    assert used[0] == used[1]


@pytest.mark.parametrize(
    ("path", "method", "code", "status"),
    [
        ("POST /count", "CreateRun", Code.UNAVAILABLE, 503),
        ("GET /whoami", "UserInfo", Code.UNAUTHENTICATED, 401),
    ],
)
def test_a_call_that_fails_is_not_repeated(
    *,
    alice: httpx.Client,
    local_flyte: LocalFlyte,
    received: Callable[[], list[ReceivedCall]],
    path: str,
    method: str,
    code: Code,
    status: int,
) -> None:
    local_flyte.fail_next(method, code, message="unauthorized")
    assert alice.request(*path.split()).status_code == status
    assert [call.method for call in received()].count(method) == 1


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
    ("path", "call", "hangs"),
    [
        ("/runs/{run}/events", "WatchActions", True),
        ("/runs/{run}/log", "TailLogs", False),  # the task prints and goes on: half a log is no log
    ],
)
def test_a_stream_has_a_deadline(
    *,
    short_timeout: httpx.Client,
    local_flyte: LocalFlyte,
    counting: str,
    path: str,
    call: str,
    hangs: bool,
) -> None:
    with local_flyte.hang(call) if hangs else nullcontext():
        with short_timeout.stream("GET", path.format(run=counting)) as answer:
            told = "".join(islice(answer.iter_lines(), 9))
        assert '"status":504' in told.replace(" ", "")
        wait_until(lambda: local_flyte.open_calls(call) == 0)


@pytest.mark.parametrize(
    "end",
    [
        (),
        (b"\0\0\0\0\x09half",),
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

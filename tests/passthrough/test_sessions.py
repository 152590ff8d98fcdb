"""Calls to Flyte: to which address, as whom, once, with a deadline; the sizes of its messages."""

import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from itertools import islice

import httpx
import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from fastapi import APIRouter
from flyte import remote

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
Received = Callable[[], list[ReceivedCall]]


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


def ask(client: httpx.Client, run: str) -> list[int]:
    """Make every call for which Flyte may name another address: read data, read a log, run."""
    answers = (
        client.get(f"/runs/{run}/io"),
        client.get(f"/runs/{run}/log"),
        client.post("/count"),
    )
    return [answer.status_code for answer in answers]


@pytest.mark.parametrize("scheme", ["https://", "", "dns:///"])
def test_calls_to_the_address_that_flyte_names_share_a_connection(
    alice: httpx.Client, local_flyte: LocalFlyte, elsewhere: Elsewhere, greeting: str, scheme: str
) -> None:
    elsewhere.answers()
    with local_flyte.cluster_at(
        elsewhere.address.replace("https://127.0.0.1", f"{scheme}localhost")
    ):
        ask(alice, greeting)
    called = {call["path"].rpartition("/")[2] for call in elsewhere.received}
    assert called == {"GetActionData", "TailLogs", "UploadInputs"}
    assert {call["headers"]["authorization"] for call in elsewhere.received} == {bearer("alice")}
    assert len({call["client"] for call in elsewhere.received}) == 1


def test_nothing_is_sent_to_a_cluster_without_tls(
    *,
    alice: httpx.Client,
    local_flyte: LocalFlyte,
    plain: Elsewhere,
    greeting: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    plain.answers()
    with local_flyte.cluster_at(plain.address):
        assert ask(alice, greeting) == [502] * 3
    assert f"no credentials are sent to '{plain.address}'" in caplog.text
    assert plain.received == []


@pytest.mark.usefixtures("alice")  # her app has initialised the SDK
async def test_without_a_caller_nothing_is_sent(received: Received) -> None:
    with pytest.raises(ConnectError, match="there are no caller's credentials here"):
        await remote.User.get.aio()
    assert received() == []


def test_flytes_own_host_is_called_with_tls_whatever_scheme_flyte_names(
    alice: httpx.Client, local_flyte: LocalFlyte, greeting: str
) -> None:
    own = local_flyte.app_environment()["_U_EP_OVERRIDE"].rpartition("/")[2]
    with local_flyte.cluster_at(f"http://{own}"):
        assert ask(alice, greeting) == [200] * 3


def test_concurrent_callers_are_not_merged_and_share_no_cache(
    alice: httpx.Client,
    bob: httpx.Client,
    local_flyte: LocalFlyte,
    greeting: str,
    received: Received,
) -> None:
    with ThreadPoolExecutor(2) as threads:
        with local_flyte.hang("SelectCluster"):
            answers = [threads.submit(each.get, f"/runs/{greeting}/io") for each in (alice, bob)]
            wait_until(lambda: local_flyte.open_calls("SelectCluster") == 2)
        assert [answer.result().status_code for answer in answers] == [200, 200]
    alice.get(f"/runs/{greeting}/io")
    for method in ("SelectCluster", "GetActionData"):
        callers = [call.headers["authorization"] for call in received() if call.method == method]
        assert sorted(set(callers)) == sorted([bearer("alice"), bearer("bob")])
        assert callers.count(bearer("alice")) == 2 * callers.count(bearer("bob"))


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
    received: Received,
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

"""The app's calls to Flyte: their destination, sizes, retries, deadline and caller."""

import asyncio
import functools
import gc
import os
import resource
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import trustme
from connectrpc.code import Code
from fastapi import APIRouter
from flyte import remote
from flyteidl2.dataproxy.dataproxy_service_pb2 import TailLogsResponse
from starlette.types import Receive, Scope, Send

from app.routers import streams
from local_flyte import LocalFlyte, ReceivedCall
from local_flyte.testing import bearer, client_of, serving, wait_until
from passthrough.calls.interceptor import PAUSES
from passthrough.calls.sdk import sdk_object
from passthrough.limits import (
    MAX_ERROR_BYTES,
    MAX_LOG_EVENT_CHARS,
    MAX_MESSAGE_BYTES,
    MAX_MESSAGE_LINES,
    MAX_SESSIONS,
)

from . import naive_endpoints
from .support import build_app

MEBIBYTE = bytes(1024 * 1024)
KEY = "a-key-for-flyte-only"
Received = Callable[[], list[ReceivedCall]]

router = APIRouter()
router.include_router(streams.router)
router.include_router(naive_endpoints.router)
went_on: list[str] = []
"""How a log ended in a thread."""


@router.get("/logs/{name}")
async def whole_log(name: str) -> list[str]:
    run = await remote.Run.get.aio(name)
    return [line async for line in run.get_logs.aio()]


@router.get("/sync/logs/{name}")
def whole_log_in_a_thread(name: str) -> None:
    try:
        for _ in remote.Run.get(name).get_logs():
            pass
    except BaseException as error:
        went_on.append(type(error).__name__)
        raise
    went_on.append("after half a log")


@router.get("/limited/{what}/{name}")
async def limited(what: str, name: str) -> list[bool]:
    """Return whether anyio and asyncio have recognised the cancellation of a call as their own."""
    call = naive_endpoints.whoami if what == "whoami" else functools.partial(whole_log, name)
    with anyio.move_on_after(0.5) as scope:
        await call()
    with suppress(TimeoutError):
        async with asyncio.timeout(0.5) as limit:
            await call()
    return [scope.cancelled_caught, limit.expired()]


@router.get("/watch/{name}")
async def watched(name: str) -> list[str]:
    run = await remote.Run.get.aio(name)
    return [details.phase async for details in run.watch()]


# The destination


class Elsewhere:
    """A server that records requests, and sends a given answer."""

    def __init__(self) -> None:
        self.address = ""
        self.answers()

    def answers(
        self, *answer: bytes, kind: str = "proto", status: int = 200, **headers: object
    ) -> None:
        """Forget what was received, and from now on send this answer, if there is one."""
        self.received: list[dict[bytes, bytes]] = []
        self.answer, self.status = answer, status
        self.headers = {"content-type": f"application/{kind}", **headers}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        self.received.append(dict(scope["headers"]))
        headers = [(name.encode(), str(value).encode()) for name, value in self.headers.items()]
        status = 307 if "location" in self.headers else self.status if self.answer else 404
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for piece in self.answer:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture(scope="module", autouse=True)
def certificate(
    local_flyte: LocalFlyte, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A server's certificate from an authority that the app trusts besides Flyte's."""
    folder, authority = tmp_path_factory.mktemp("elsewhere"), trustme.CA()
    server = authority.issue_cert("127.0.0.1", "localhost")
    server.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    trusted = Path(os.environ["SSL_CERT_FILE"]).read_bytes() + authority.cert_pem.bytes()
    (folder / "trusted.pem").write_bytes(trusted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(folder / "trusted.pem"))
        patch.setenv("CREDENTIAL_HEADERS", "x-api-key")
        yield folder / "server.pem"


@pytest.fixture(scope="module")
def elsewhere(certificate: Path) -> Iterator[Elsewhere]:
    """Such a server with TLS, on Flyte's own host."""
    server = Elsewhere()
    with serving(server, lifespan="off", ssl_certfile=certificate) as server.address:
        yield server


@pytest.fixture(scope="module")
def plain() -> Iterator[Elsewhere]:
    """Such a server without TLS."""
    server = Elsewhere()
    with serving(server, lifespan="off") as server.address:
        yield server


@pytest.fixture(scope="module")
def there(elsewhere: Elsewhere) -> Iterator[httpx.Client]:
    """Alice's client of an app whose Flyte is that server."""
    with (
        serving(build_app(router, flyte_endpoint=elsewhere.address)) as url,
        client_of(url, "alice") as client,
    ):
        yield client


def ask(client: httpx.Client, run: str) -> list[int]:
    """Make every call for which Flyte may name another address: read data, read a log, run."""
    client.headers["X-Api-Key"] = KEY
    answers = (client.get(f"/runs/{run}/io"), client.get(f"/logs/{run}"), client.post("/count"))
    return [answer.status_code for answer in answers]


def test_data_at_a_foreign_address_is_not_fetched(
    *,
    alice: httpx.Client,
    local_flyte: LocalFlyte,
    elsewhere: Elsewhere,
    plain: Elsewhere,
    greeting: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    foreign = elsewhere.address.replace("127.0.0.1", "localhost")
    for address in (foreign, plain.address, "https://[", "ftp://127.0.0.1", " "):
        with local_flyte.cluster_at(address):
            assert ask(alice, greeting) == [502] * 3
        assert address in caplog.text
    assert "FLYTE_DATA_ADDRESSES" in caplog.text
    assert elsewhere.received == plain.received == []
    app = build_app(router, flyte_data_addresses=(foreign,))
    with serving(app) as url, client_of(url, "alice") as client, local_flyte.cluster_at(foreign):
        ask(client, greeting)
    assert {each[b"x-api-key"] for each in elsewhere.received} == {KEY.encode()}


def test_a_redirect_is_not_followed(
    there: httpx.Client, elsewhere: Elsewhere, plain: Elsewhere
) -> None:
    plain.answers()
    elsewhere.answers(location=f"{plain.address}/sign-in")
    assert there.get("/projects", headers={"X-Api-Key": KEY}).status_code == 502
    assert elsewhere.received[0][b"x-api-key"] == KEY.encode()
    assert plain.received == []


@pytest.mark.parametrize("host", ["\u2028.example", "a\0b", "x" * 70_000])
def test_an_upload_to_an_address_that_is_none_is_flytes_mistake(
    alice: httpx.Client, local_flyte: LocalFlyte, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr(local_flyte._services.storage, "address", f"http://{host}")
    assert alice.post("/words", content=b"one two").status_code == 502


# Sizes of answers


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
            assert there.get("/projects").status_code == 413
    error = b'{"code": "not_found", "details": [%s{}]}' % (b"{}," * (MAX_ERROR_BYTES // 3))
    elsewhere.answers(error, kind="json", status=404)
    assert there.get("/projects").status_code == 413


def envelope(data: bytes, flags: int = 0) -> bytes:
    """Return a message of a stream in the Connect protocol."""
    return bytes([flags]) + len(data).to_bytes(4, "big") + data


def lines(*texts: str) -> bytes:
    """Return a message with lines of a log."""
    message = TailLogsResponse()
    for text in texts:
        message.logs.add().lines.add(message=text)
    return envelope(message.SerializeToString())


@pytest.fixture
def log(local_flyte: LocalFlyte, elsewhere: Elsewhere) -> Iterator[Callable[..., None]]:
    """Makes the cluster send a log as a stream of these pieces."""
    with local_flyte.cluster_at(elsewhere.address):
        yield functools.partial(elsewhere.answers, kind="connect+proto")


def test_a_message_of_a_stream_that_is_too_large_is_not_read(
    alice: httpx.Client, log: Callable[..., None], greeting: str
) -> None:
    announced = bytes(1) + (200 * len(MEBIBYTE)).to_bytes(4, "big")
    empty_lines = TailLogsResponse.Logs.FromString(b"\n\0" * (MAX_MESSAGE_LINES + 1))
    many = TailLogsResponse(logs=[empty_lines]).SerializeToString()
    for limit, pieces in (
        (MAX_MESSAGE_BYTES, (lines("one"), announced, *[MEBIBYTE] * 200)),
        (MAX_ERROR_BYTES, (envelope(b"{%s}" % (b" " * MAX_ERROR_BYTES), 2),)),
        (MAX_MESSAGE_LINES, (envelope(many),)),
        (MAX_MESSAGE_LINES, (lines("\r" * MAX_MESSAGE_LINES + "last"),)),
    ):
        log(*pieces)
        with little_memory():
            answer = alice.get(f"/logs/{greeting}")
        assert answer.status_code == 413
        assert str(limit) in answer.json()["detail"]


def test_messages_of_a_stream_arrive_whole_however_they_are_split(
    alice: httpx.Client, log: Callable[..., None], greeting: str
) -> None:
    whole = b"".join(lines(f"line {n}") for n in range(30)) + envelope(b"{}", 2)
    log(*(whole[at : at + 7] for at in range(0, len(whole), 7)))
    read = alice.get(f"/logs/{greeting}").json()
    assert [line.strip() for line in read] == [f"line {n}" for n in range(30)]


@pytest.mark.parametrize(
    "end",
    [
        (),
        (b"\0\0",),
        (b"\0\0\0\0\x09half",),
        (envelope(b"{}", 2)[:-1],),
        (envelope(b'{"error": {"code": "internal"}}', 2)[:-4],),
    ],
)
def test_a_log_that_is_cut_off_does_not_look_whole(
    alice: httpx.Client, log: Callable[..., None], greeting: str, end: tuple[bytes, ...]
) -> None:
    log(lines("one"), *end)
    assert alice.get(f"/logs/{greeting}").status_code == 503
    first, last = alice.get(f"/runs/{greeting}/logs").text.split("\n\n")[:-1]
    assert first == "data: one\nid: 1-1"
    assert last.startswith("event: problem\n")
    assert '"status":503' in last.replace(" ", "")


def test_a_log_that_disappears_while_it_is_read_is_not_read_from_its_start(
    alice: httpx.Client, elsewhere: Elsewhere, log: Callable[..., None], greeting: str
) -> None:
    log(lines("one"), envelope(b'{"error": {"code": "not_found"}}', 2))
    told = alice.get(f"/runs/{greeting}/logs").text.split("\n\n")[:-1]
    assert told == ["data: one\nid: 1-1", 'event: unavailable\ndata: {"attempt": 1}\nid: 1-gone']
    assert len(elsewhere.received) == 1


def test_a_log_resumes_after_any_event_also_within_a_long_message(
    alice: httpx.Client, log: Callable[..., None], greeting: str
) -> None:
    messages = ("one\ntwo\rth\aree\r\n", "x" * (2 * MAX_LOG_EVENT_CHARS + 1), "last")
    log(lines(*messages), envelope(b"{}", 2))

    def events(seen: int) -> list[str]:
        headers = {"Last-Event-ID": f"1-{seen}"}
        return alice.get(f"/runs/{greeting}/logs", headers=headers).text.split("\n\n")[:-1]

    told = events(0)
    assert told[0] == "data: one\ndata: two\ndata: three\nid: 1-1"
    assert [len(event) // MAX_LOG_EVENT_CHARS for event in told] == [0, 1, 1, 0, 0]
    assert told[3:] == ["data: x\nid: 1-4", "data: last\nid: 1-5"]
    for seen in range(1, 6):
        assert events(seen) == told[seen:]


def test_a_failed_stream_is_not_retried(
    alice: httpx.Client, elsewhere: Elsewhere, log: Callable[..., None], greeting: str
) -> None:
    for code in (b"unauthenticated", b"unknown", b"internal", b"unavailable"):
        end = envelope(b'{"error": {"code": "%s", "message": "unauthorized"}}' % code, 2)
        log(lines("one"), lines("two", "three"), end)
        text = alice.get(f"/runs/{greeting}/logs").text
        assert len(elsewhere.received) == 1
        events = [line for line in text.splitlines() if line.startswith(("data:", "event:"))]
        assert events[:4] == ["data: one", "data: two", "data: three", "event: problem"]
        assert len(events) == 5


async def test_only_the_last_sessions_to_clusters_are_kept(local_flyte: LocalFlyte) -> None:
    create = sdk_object("flyte.remote._client.controlplane").create_session_config
    kept = weakref.WeakSet[Any]()
    for number in range(2 * MAX_SESSIONS):
        options = {"auth_endpoint": "https://flyte.acme.example", "auth_type": "Passthrough"}
        kept.add((await create(f"https://{number}.acme.example", **options)).interceptors[0])
    gc.collect()
    assert len(kept) == MAX_SESSIONS


# Retries and deadlines


@pytest.mark.parametrize(
    ("path", "method", "code", "times"),
    [
        ("GET /runs", "ListRuns", Code.UNAVAILABLE, len(PAUSES) + 1),
        ("POST /runs/{run}/abort", "AbortRun", Code.UNAVAILABLE, 1),
        ("POST /count", "CreateRun", Code.UNAVAILABLE, 1),
        ("GET /whoami", "UserInfo", Code.UNAUTHENTICATED, 1),
        ("GET /whoami", "UserInfo", Code.UNKNOWN, 1),
        ("POST /runs/{run}/abort", "AbortRun", Code.UNAUTHENTICATED, 1),
        ("POST /runs/{run}/abort", "AbortRun", Code.INTERNAL, 1),
    ],
)
def test_only_a_call_that_reads_is_retried_and_only_if_flyte_is_unavailable(
    *,
    alice: httpx.Client,
    local_flyte: LocalFlyte,
    greeting: str,
    received: Received,
    path: str,
    method: str,
    code: Code,
    times: int,
) -> None:
    local_flyte.fail_next(method, code, times=100, message="unauthorized")
    answer = alice.request(*path.format(run=greeting).split())
    local_flyte.fail_next(method, code, times=0)
    status = {Code.UNAVAILABLE: 503, Code.UNAUTHENTICATED: 401}.get(code, 502)
    assert answer.status_code == status
    assert [call.method for call in received()].count(method) == times


def test_a_stream_that_says_nothing_has_a_deadline(
    short_timeout: httpx.Client, local_flyte: LocalFlyte, greeting: str, received: Received
) -> None:
    def watches() -> int:
        return [call.method for call in received()].count("WatchActionDetails")

    def asked() -> int:
        assert short_timeout.get(f"/watch/{greeting}").status_code == 504
        return watches()

    with local_flyte.hang("WatchActionDetails"):
        wait_until(asked)  # on a busy machine, the deadline may come before this call
        wait_until(lambda: local_flyte.open_calls("WatchActionDetails") == 0)
    assert watches() == 1


def test_half_a_log_is_no_log(
    short_timeout: httpx.Client, local_flyte: LocalFlyte, counting: str
) -> None:
    assert short_timeout.get(f"/logs/{counting}").status_code == 504
    assert short_timeout.get(f"/sync/logs/{counting}").status_code == 504
    wait_until(lambda: went_on)
    assert went_on == ["CancelledError"]
    wait_until(lambda: local_flyte.open_calls("TailLogs") == 0)


def test_a_watch_that_falls_silent_is_opened_again(
    short_timeout: httpx.Client, local_flyte: LocalFlyte, counting: str, received: Received
) -> None:
    with (
        local_flyte.hang("WatchActionDetails", after=1),
        short_timeout.stream("GET", f"/runs/{counting}/events"),
    ):
        wait_until(lambda: [call.method for call in received()].count("WatchActionDetails") > 1)


@pytest.mark.parametrize("what", ["whoami", "logs"])
def test_a_deadline_of_the_endpoints_own_ends_a_call(
    alice: httpx.Client, local_flyte: LocalFlyte, counting: str, what: str
) -> None:
    with local_flyte.hang("UserInfo"):
        assert alice.get(f"/limited/{what}/{counting}").json() == [True, True]


# Callers


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

"""The app's calls to Flyte and to other apps: destination, sizes, retries, deadline and caller."""

import asyncio
import functools
import gc
import os
import resource
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import trustme
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from fastapi import APIRouter
from flyte import remote
from flyteidl2.app import app_definition_pb2
from flyteidl2.dataproxy.dataproxy_service_pb2 import TailLogsResponse
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from app.routers import streams
from local_flyte import LocalFlyte, ReceivedCall
from local_flyte.testing import acting_as, bearer, client_of, serving, wait_until
from passthrough.calls.interceptor import PAUSES
from passthrough.calls.other_apps import call_app
from passthrough.calls.request_calls import RequestCalls, current_calls
from passthrough.calls.sdk import sdk_object
from passthrough.limits import (
    MAX_ERROR_BYTES,
    MAX_LOG_BYTES,
    MAX_LOG_EVENT_CHARS,
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


@router.get("/logs/{name}")
async def whole_log(name: str) -> list[str]:
    run = await remote.Run.get.aio(name)
    return [line async for line in run.get_logs.aio()]


@router.get("/limited/{name}")
async def limited(name: str) -> list[bool]:
    """Return whether anyio and asyncio have recognised the cancellation of a call as their own."""
    with anyio.move_on_after(0.5) as scope:
        await whole_log(name)
    with suppress(TimeoutError):
        async with asyncio.timeout(0.5) as limit:
            await whole_log(name)
    return [scope.cancelled_caught, limit.expired()]


# The destination


class Elsewhere:
    """A server that records requests, and sends a given answer."""

    def __init__(self) -> None:
        self.address, self.was_left = "", False
        self.answers()

    def answers(
        self, *answer: bytes, kind: str = "proto", status: int = 200, **headers: object
    ) -> None:
        """Forget what was received, and from now on send this answer, if there is one."""
        self.received: list[Message] = []
        self.answer, self.status = answer, status
        self.headers = {"content-type": f"application/{kind}", **headers}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        self.received.append({**scope, **message, "headers": Headers(scope=scope)})
        while scope["path"] == "/hang" and message["type"] != "http.disconnect":
            message = await receive()
        self.was_left = message["type"] == "http.disconnect"
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
    assert {each["headers"]["x-api-key"] for each in elsewhere.received} == {KEY}


def test_a_redirect_is_not_followed(
    there: httpx.Client, elsewhere: Elsewhere, plain: Elsewhere
) -> None:
    plain.answers()
    elsewhere.answers(location=f"{plain.address}/sign-in")
    assert there.get("/projects", headers={"X-Api-Key": KEY}).status_code == 502
    assert elsewhere.received[0]["headers"]["x-api-key"] == KEY
    assert plain.received == []


def test_an_upload_to_an_address_that_is_none_is_flytes_mistake(
    alice: httpx.Client, local_flyte: LocalFlyte, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_flyte._services.storage, "address", "http://a\0b")
    assert alice.post("/words", content=b"one two").status_code == 502


# Other apps


def app_at(address: str) -> remote.App:
    """Make an app, as if Flyte had returned this address for it."""
    app = app_definition_pb2.App()
    app.metadata.id.name = "other"
    app.status.ingress.public_url = address
    return remote.App(app)


@router.post("/call")
async def call(address: str, path: str) -> list[Any]:
    own = {"Authorization": "Bearer of-nobody", "X-Own": "1"}
    options = {"content": {"one": 1}, "params": {"two": "2"}, "headers": own}
    answer = await call_app(app_at(address), "POST", path, **options)
    return [answer.status, answer.text()]


def post(client: httpx.Client, address: str, path: str = "/echo") -> httpx.Response:
    return client.post("/call", params={"address": address, "path": path})


def test_another_app_is_called_as_the_caller_whatever_headers_the_endpoint_sets(
    alice: httpx.Client, bob: httpx.Client, elsewhere: Elsewhere
) -> None:
    for client, name in ((alice, "alice"), (bob, "bob")):
        elsewhere.answers(b"said")
        assert post(client, elsewhere.address).json() == [200, "said"]
        (received,) = elsewhere.received
        assert received["headers"].getlist("authorization") == [bearer(name)]
        assert received["headers"]["x-own"] == "1"
        assert (received["query_string"], received["body"]) == (b"two=2", b'{"one": 1}')


def test_nothing_is_sent_to_any_other_address(
    alice: httpx.Client, elsewhere: Elsewhere, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere.answers()
    port = elsewhere.address.rpartition(":")[2]
    for address in (
        f"http://127.0.0.1:{port}",
        f"https://localhost:{port}",
        f"https://x@127.0.0.1:{port}",
        # By WHATWG's rules, which the transport has, "\\" ends the host; by Python's it does not.
        f"https://:@localhost:{port}\\@127.0.0.1",
        f"https://[127.0.0.1:{port}",
        "",
    ):
        caplog.clear()
        assert post(alice, address).status_code == 502, address
        assert "add it to FLYTE_DATA_ADDRESSES" in caplog.text
    assert post(alice, "https://127.0.0.1:99999", "/echo?x=private").status_code == 502
    assert "127.0.0.1:99999' cannot be called" in caplog.text
    assert "private" not in caplog.text
    assert elsewhere.received == []


def test_a_path_cannot_change_the_address_and_a_redirect_is_not_followed(
    alice: httpx.Client, elsewhere: Elsewhere, plain: Elsewhere
) -> None:
    plain.answers()
    elsewhere.answers(location=f"{plain.address}/echo")
    for path in ("@example.com/", ".example.com/", ""):
        assert post(alice, elsewhere.address, path).status_code == 500
    assert elsewhere.received == []
    assert post(alice, elsewhere.address).json() == [307, ""]
    assert plain.received == []


def test_nothing_is_sent_to_an_untrusted_certificate(
    alice: httpx.Client, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    elsewhere.answers()
    certificate = tmp_path / "server.pem"
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    with serving(elsewhere, lifespan="off", ssl_certfile=certificate) as url:
        assert post(alice, url).status_code == 503
    assert elsewhere.received == []


def test_an_app_that_hangs_is_left_at_the_deadline(
    short_timeout: httpx.Client, elsewhere: Elsewhere
) -> None:
    def is_left() -> bool:
        assert post(short_timeout, elsewhere.address, "/hang").status_code == 504
        return elsewhere.was_left

    wait_until(is_left)  # on a busy machine, the deadline may come before it is called


def test_nobody_and_what_goes_on_after_its_request_call_no_app(elsewhere: Elsewhere) -> None:
    async def call(calls: RequestCalls) -> None:
        current_calls.set(calls)
        await call_app(app_at(elsewhere.address), "POST", "/echo", content={})

    elsewhere.answers()
    ended = RequestCalls()
    ended.end()
    with acting_as("alice"), pytest.raises(asyncio.CancelledError):
        asyncio.run(call(ended))
    with pytest.raises(ConnectError, match="there are no caller's credentials here"):
        asyncio.run(call(RequestCalls()))
    assert elsewhere.received == []


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
        (MAX_LOG_BYTES, (lines("one"), announced, *[MEBIBYTE] * 200)),
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
    assert alice.get(f"/logs/{greeting}").status_code == 503
    assert len(elsewhere.received) == 1
    *told, last = alice.get(f"/runs/{greeting}/logs").text.split("\n\n")[:-1]
    assert told == ["data: one\nid: 1-1", "data: two\nid: 1-2", "data: three\nid: 1-3"]
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
    assert answer.status_code == {Code.UNAVAILABLE: 503, Code.UNAUTHENTICATED: 401}[code]
    assert [call.method for call in received()].count(method) == times


@pytest.mark.parametrize(
    ("path", "call", "hangs"),
    [
        ("/runs/{run}/events", "WatchActionDetails", True),
        ("/logs/{run}", "TailLogs", False),  # the task prints and goes on: half a log is no log
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


def test_a_deadline_of_the_endpoints_own_ends_a_call(alice: httpx.Client, counting: str) -> None:
    assert alice.get(f"/limited/{counting}").json() == [True, True]


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

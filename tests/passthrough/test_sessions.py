"""The app's calls to Flyte: their destination, retries, deadline and caller, and their secrets."""

import asyncio
import gc
import logging
import os
import resource
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import anyio
import flyte
import httpx
import pytest
import trustme
from app.routers import streams
from connectrpc.code import Code
from fastapi import APIRouter
from fastapi.sse import EventSourceResponse, ServerSentEvent
from flyte import remote
from flyteidl2.dataproxy.dataproxy_service_pb2 import TailLogsResponse
from starlette.types import Receive, Scope, Send

from local_flyte import PEOPLE, LocalFlyte, ReceivedCall
from passthrough.calls.request_calls import PAUSES
from passthrough.calls.runs import LONGEST_MESSAGE
from passthrough.calls.sdk import part
from passthrough.calls.sessions import MOST_SESSIONS
from passthrough.calls.transport import LARGEST_MESSAGE

from .support import bearer, build_app, client_of, serving, wait_until

CONTROL_PLANE = "flyte.remote._client.controlplane"
MEBIBYTE = bytes(1024 * 1024)
KEY = "a-key-for-flyte-only"
TOKEN = PEOPLE["alice"].token
Received = Callable[[], list[ReceivedCall]]

router = APIRouter()
went_on: list[str] = []
"""How a log ended in a thread."""


@router.get("/me")
async def me() -> str:
    return (await remote.User.get.aio()).name()


@router.get("/sync/me")
def sync_me() -> str:
    return remote.User.get().name()


@router.get("/projects")
async def projects() -> list[str]:
    return [project.pb2.id async for project in remote.Project.listall.aio()]


@router.get("/runs")
async def runs() -> list[str]:
    return [run.name async for run in remote.Run.listall.aio()]


@router.get("/io/{name}")
async def io(name: str) -> Any:
    run = await remote.Run.get.aio(name)
    return {**(await run.inputs.aio()), "o0": (await run.outputs.aio())[0]}


@router.get("/logs/{name}")
async def logs(name: str) -> list[str]:
    run = await remote.Run.get.aio(name)
    return [line async for line in run.get_logs.aio()]


@router.get("/sync/logs/{name}")
def sync_logs(name: str) -> None:
    try:
        for _ in remote.Run.get(name).get_logs():
            pass
    except BaseException as error:
        went_on.append(type(error).__name__)
        raise
    went_on.append("after half a log")


@router.get("/hurried/logs/{name}")
async def hurried_logs(name: str) -> str:
    try:
        async with asyncio.timeout(0.5):
            await logs(name)
    except TimeoutError:
        return "half a log"
    return "a whole log"


@router.get("/limited/{what}/{name}")
async def limited(what: str, name: str) -> bool:
    """Return whether anyio has recognised the cancellation of a call to Flyte as its own."""
    with anyio.move_on_after(0.5) as scope:
        await (me() if what == "me" else logs(name))
    return scope.cancelled_caught


@router.get("/events/{name}", response_class=EventSourceResponse)
async def events(name: str) -> Any:
    run = await remote.Run.get.aio(name)
    async for line in run.get_logs.aio():
        yield ServerSentEvent(raw_data=line.strip())


@router.get("/watch/{name}")
async def watch(name: str) -> list[str]:
    run = await remote.Run.get.aio(name)
    return [details.phase async for details in run.watch()]


@router.post("/upload")
async def upload() -> str:
    return (await remote.upload_file.aio(Path(__file__)))[1]


@router.post("/greet")
async def greet() -> str:
    task = remote.Task.get("tests.greet", auto_version="latest")
    return (await flyte.run.aio(task, name="Ada")).name


@router.post("/abort/{name}")
async def abort(name: str) -> None:
    await (await remote.Run.get.aio(name)).abort.aio()


# The destination


class Elsewhere:
    """A server that is not Flyte: it records requests, and sends a given answer."""

    def __init__(self) -> None:
        self.received: list[dict[bytes, bytes]] = []
        self.location = ""
        self.answer: list[bytes] = []
        self.kind = b"application/proto"
        self.length: int | None = None
        self.address = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        self.received.append(dict(scope["headers"]))
        status, headers = 404, [(b"content-type", self.kind)]
        if self.location:
            status, headers = 307, [(b"location", self.location.encode())]
        if self.answer:
            status = 200
        if self.length is not None:
            headers.append((b"content-length", b"%d" % self.length))
            if self.length < sum(map(len, self.answer)):  # the length is void then
                headers.append((b"transfer-encoding", b"chunked"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for piece in self.answer:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture(scope="module")
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
def url(certificate: Path, local_flyte: LocalFlyte) -> Iterator[str]:
    """The URL of an app with a credential header of its own."""
    with serving(build_app(router)) as url:
        yield url


@pytest.fixture(scope="module")
def hurried(certificate: Path, local_flyte: LocalFlyte) -> Iterator[httpx.Client]:
    """Alice's client, with that credential, of an app with a short timeout for Flyte."""
    with serving(build_app(router, flyte_timeout=1.0)) as url, client_of(url, "alice") as client:
        client.headers["X-Api-Key"] = KEY
        yield client


@contextmanager
def elsewhere(certificate: Path, scheme: str = "https") -> Iterator[Elsewhere]:
    """Start such a server."""
    server = Elsewhere()
    options = {"ssl_certfile": certificate} if scheme == "https" else {}
    with serving(server, lifespan="off", **options) as url:
        server.address = url
        yield server


def ask(client: httpx.Client, run: str) -> list[int]:
    """Make every call for which Flyte may name another address: read data, read a log, run."""
    client.headers["X-Api-Key"] = KEY
    answers = (client.get(f"/io/{run}"), client.get(f"/logs/{run}"), client.post("/greet"))
    return [answer.status_code for answer in answers]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_data_at_a_foreign_address_is_not_fetched(
    *,
    alice: httpx.Client,
    local_flyte: LocalFlyte,
    certificate: Path,
    greeting: str,
    scheme: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with elsewhere(certificate, scheme) as server, local_flyte.cluster_at(server.address):
        assert ask(alice, greeting) == [502] * 3
        assert server.received == []
        assert server.address in caplog.text
        assert "FLYTE_DATA_ADDRESSES" in caplog.text


@pytest.mark.parametrize(
    "address", ["https://[", "[", "dns:///", "ftp://127.0.0.1", "//", "?", " ", "https://a b/"]
)
def test_a_missing_data_address_is_reported_as_a_fault_of_flyte(
    alice: httpx.Client, local_flyte: LocalFlyte, greeting: str, address: str
) -> None:
    with local_flyte.cluster_at(address):
        assert ask(alice, greeting) == [502] * 3


@pytest.mark.parametrize("scheme", ["http://", "https://", "dns:///", ""])
def test_flytes_own_address_is_called_over_tls_however_it_is_written(
    alice: httpx.Client, local_flyte: LocalFlyte, greeting: str, scheme: str
) -> None:
    with local_flyte.cluster_at(local_flyte.endpoint.replace("dns:///", scheme)):
        assert ask(alice, greeting) == [200] * 3


def test_a_cluster_listed_in_the_settings_is_called_only_over_tls(
    local_flyte: LocalFlyte, certificate: Path, greeting: str
) -> None:
    for written, is_asked in (("https://", 1), ("dns:///", 1), ("", 1), ("http://", 0)):
        with ExitStack() as stack:
            scheme = "http" if written == "http://" else "https"
            server = stack.enter_context(elsewhere(certificate, scheme))
            app = build_app(router, flyte_data_addresses=(server.address,))
            client = stack.enter_context(client_of(stack.enter_context(serving(app)), "alice"))
            address = server.address.replace(f"{scheme}://", written)
            stack.enter_context(local_flyte.cluster_at(address))
            ask(client, greeting)
            assert bool(server.received) == is_asked
            assert all(each[b"x-api-key"] == KEY.encode() for each in server.received)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("path", ["/projects", "/sync/me"])
def test_a_redirect_is_not_followed(certificate: Path, scheme: str, path: str) -> None:
    with elsewhere(certificate, scheme) as server, elsewhere(certificate) as flyte:
        flyte.location = f"{server.address}/sign-in"
        with (
            serving(build_app(router, flyte_endpoint=flyte.address)) as url,
            client_of(url, "alice") as client,
        ):
            assert client.get(path, headers={"X-Api-Key": KEY}).status_code == 502
        assert flyte.received[0][b"x-api-key"] == KEY.encode()
        assert server.received == []


# Sizes of answers


def test_an_unreadable_answer_is_a_fault_of_flyte_and_not_retried(
    certificate: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with elsewhere(certificate) as flyte:
        flyte.answer = [b"\xff"]  # protobuf fails the same way on more than 100 levels of nesting
        with (
            serving(build_app(router, flyte_endpoint=flyte.address)) as url,
            client_of(url, "alice") as client,
        ):
            response = client.get("/projects")
        assert response.status_code == 502
        assert "ListProjects: 'the answer cannot be read'" in caplog.text
        assert len(flyte.received) == 1


@contextmanager
def little_memory() -> Iterator[None]:
    """Check that the block keeps little of what it receives in memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert used < 64 * 1024, f"{used / 1024:.0f} MiB"


@pytest.mark.parametrize("length", [200 * len(MEBIBYTE), None, 1])
def test_reading_stops_at_an_answer_that_is_too_large(
    certificate: Path, length: int | None
) -> None:
    with elsewhere(certificate) as flyte:
        flyte.answer, flyte.length = [MEBIBYTE] * 200, length
        with (
            serving(build_app(router, flyte_endpoint=flyte.address)) as url,
            client_of(url, "alice") as client,
            little_memory(),
        ):
            answer = client.get("/projects")
        assert answer.status_code == 413, answer.text


@contextmanager
def log_elsewhere(
    local_flyte: LocalFlyte, certificate: Path, *messages: bytes
) -> Iterator[tuple[httpx.Client, Elsewhere]]:
    """Make a cluster send a log as a stream of these messages."""
    with ExitStack() as stack:
        server = stack.enter_context(elsewhere(certificate))
        server.kind, server.answer = b"application/connect+proto", [*messages]
        app = build_app(router, streams.router, flyte_data_addresses=(server.address,))
        client = stack.enter_context(client_of(stack.enter_context(serving(app)), "alice"))
        stack.enter_context(local_flyte.cluster_at(server.address))
        yield client, server


def envelope(data: bytes, flags: int = 0) -> bytes:
    """Return a message of a stream in the Connect protocol."""
    return bytes([flags]) + len(data).to_bytes(4, "big") + data


def lines(*texts: str) -> bytes:
    """Return a message with lines of a log."""
    message = TailLogsResponse()
    for text in texts:
        message.logs.add().lines.add(message=text)
    return envelope(message.SerializeToString())


def test_a_message_of_a_stream_that_is_too_large_is_not_read(
    local_flyte: LocalFlyte, certificate: Path, greeting: str
) -> None:
    announced = bytes(1) + (200 * len(MEBIBYTE)).to_bytes(4, "big")
    pieces = (lines("one"), announced, *[MEBIBYTE] * 200)
    with log_elsewhere(local_flyte, certificate, *pieces) as (client, _), little_memory():
        answer = client.get(f"/logs/{greeting}")
    assert answer.status_code == 413
    assert str(LARGEST_MESSAGE) in answer.json()["detail"]


def test_a_message_with_very_many_lines_is_not_decoded(
    local_flyte: LocalFlyte, certificate: Path, greeting: str
) -> None:
    with log_elsewhere(local_flyte, certificate, lines(*["x"] * 400_000)) as (client, _):
        assert client.get(f"/logs/{greeting}").status_code == 413


def test_a_storage_servers_answer_to_an_upload_is_not_read_whole(
    alice: httpx.Client,
    local_flyte: LocalFlyte,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with elsewhere(certificate, "http") as server, little_memory():
        server.answer = [MEBIBYTE] * 300
        monkeypatch.setattr(local_flyte._services.storage, "address", server.address)
        assert alice.post("/upload").is_success


def test_only_the_last_sessions_to_clusters_are_kept(local_flyte: LocalFlyte) -> None:
    create, flyte = part(CONTROL_PLANE).create_session_config, "https://flyte.acme.example"
    kept = weakref.WeakSet[Any]()

    async def connect() -> None:
        for number in range(2 * MOST_SESSIONS):
            for cluster in (0, number):
                session = await create(
                    f"https://{cluster}.acme.example", auth_endpoint=flyte, auth_type="Passthrough"
                )
                kept.add(session.interceptors[0])
        first = await create("https://0.acme.example", auth_endpoint=flyte, auth_type="Passthrough")
        assert first.interceptors[0] in kept

    asyncio.run(connect())
    gc.collect()
    assert len(kept) == MOST_SESSIONS


def test_messages_of_a_stream_arrive_whole_however_they_are_split(
    local_flyte: LocalFlyte, certificate: Path, greeting: str
) -> None:
    whole = b"".join(lines(f"line {n}") for n in range(30)) + envelope(b"{}", 2)
    pieces = [whole[at : at + 7] for at in range(0, len(whole), 7)]
    with log_elsewhere(local_flyte, certificate, *pieces) as (client, _):
        log = client.get(f"/logs/{greeting}").json()
    assert [line.strip() for line in log] == [f"line {n}" for n in range(30)]


def test_a_log_resumes_after_any_event_also_within_a_long_message(
    local_flyte: LocalFlyte, certificate: Path, greeting: str
) -> None:
    messages = ("one\ntwo\r\nthree", "x" * (2 * LONGEST_MESSAGE + 1), "last")
    pieces = (lines(*messages), envelope(b"{}", 2))
    with log_elsewhere(local_flyte, certificate, *pieces) as (client, _):

        def events(seen: int) -> list[str]:
            headers = {"Last-Event-ID": f"1-{seen}"}
            return client.get(f"/runs/{greeting}/logs", headers=headers).text.split("\n\n")[:-1]

        told = events(0)
        assert told[0] == "data: one\ndata: two\ndata: three\nid: 1-1"
        assert [len(event) // LONGEST_MESSAGE for event in told] == [0, 1, 1, 0, 0]
        assert told[3:] == ["data: x\nid: 1-4", "data: last\nid: 1-5"]
        for seen in range(1, 6):
            assert events(seen) == told[seen:]


@pytest.mark.parametrize("code", ["unauthenticated", "unknown", "internal", "unavailable"])
def test_a_failed_stream_is_not_retried(
    local_flyte: LocalFlyte, certificate: Path, greeting: str, code: str
) -> None:
    end = envelope(b'{"error": {"code": "%s", "message": "unauthorized"}}' % code.encode(), 2)
    pieces = (lines("one"), lines("two", "three"), end)
    with log_elsewhere(local_flyte, certificate, *pieces) as (client, server):
        text = client.get(f"/events/{greeting}").text
        assert len(server.received) == 1
    events = [line for line in text.splitlines() if line.startswith(("data:", "event:"))]
    assert events[:4] == ["data: one", "data: two", "data: three", "event: problem"]
    assert len(events) == 5


# Retries and deadlines


def test_a_call_that_only_reads_is_tried_four_times(
    alice: httpx.Client, local_flyte: LocalFlyte, greeting: str, received: Received
) -> None:
    for path, method, times in (
        ("/runs", "ListRuns", len(PAUSES) + 1),
        (f"/abort/{greeting}", "AbortRun", 1),
        ("/greet", "CreateRun", 1),
    ):
        local_flyte.fail_next(method, Code.UNAVAILABLE, times=100)
        answer = alice.get(path) if times > 1 else alice.post(path)
        local_flyte.fail_next(method, Code.UNAVAILABLE, times=0)
        assert answer.status_code == 503
        assert len([call for call in received() if call.method == method]) == times


@pytest.mark.parametrize("code", [Code.UNAUTHENTICATED, Code.UNKNOWN, Code.INTERNAL])
@pytest.mark.parametrize("method", ["UserInfo", "AbortRun"])
def test_a_refused_call_is_not_retried(
    *,
    alice: httpx.Client,
    local_flyte: LocalFlyte,
    greeting: str,
    received: Received,
    code: Code,
    method: str,
) -> None:
    local_flyte.fail_next(method, code, message="unauthorized")
    if method == "UserInfo":
        assert alice.get("/me").status_code == (401 if code is Code.UNAUTHENTICATED else 502)
    else:
        assert not alice.post(f"/abort/{greeting}").is_success
    assert len([call for call in received() if call.method == method]) == 1


def test_a_call_with_a_bad_token_is_made_once(url: str, received: Received) -> None:
    headers = {"Authorization": "Bearer nobody-knows-this-token"}
    answer = httpx.get(f"{url}/me", headers=headers, timeout=60, trust_env=False)
    assert answer.status_code == 401
    assert [call.method for call in received()] == ["UserInfo"]


@pytest.mark.parametrize("path", ["/me", "/sync/me", "/runs", "/watch/{run}", "/io/{run}"])
def test_a_flyte_that_hangs_has_a_deadline(
    hurried: httpx.Client, local_flyte: LocalFlyte, greeting: str, received: Received, path: str
) -> None:
    method = {
        "/runs": "ListRuns",
        "/watch/{run}": "WatchActionDetails",
        "/io/{run}": "SelectCluster",
    }.get(path, "UserInfo")

    def asked() -> int:
        assert hurried.get(path.format(run=greeting)).status_code == 504
        return [call.method for call in received()].count(method)

    with local_flyte.hang(method):
        wait_until(asked)  # on a busy machine, the deadline may come before this call
        wait_until(lambda: local_flyte.open_calls(method) == 0)
    assert [call.method for call in received()].count(method) == 1


def test_half_a_log_is_no_log(
    hurried: httpx.Client, local_flyte: LocalFlyte, counting: str
) -> None:
    assert hurried.get(f"/hurried/logs/{counting}").json() == "half a log"
    assert hurried.get(f"/logs/{counting}").status_code == 504
    assert hurried.get(f"/sync/logs/{counting}").status_code == 504
    wait_until(lambda: went_on)
    assert went_on == ["CancelledError"]
    wait_until(lambda: local_flyte.open_calls("TailLogs") == 0)


@pytest.mark.parametrize("what", ["me", "logs"])
def test_a_deadline_of_the_endpoints_own_ends_a_call(
    alice: httpx.Client, local_flyte: LocalFlyte, counting: str, what: str
) -> None:
    with local_flyte.hang("UserInfo"):
        assert alice.get(f"/limited/{what}/{counting}").json() is True


def test_an_endpoint_that_reads_a_log_ends_when_its_client_leaves(
    url: str, local_flyte: LocalFlyte, counting: str
) -> None:
    went_on.clear()
    with client_of(url, "alice") as leaving, pytest.raises(httpx.ReadTimeout):
        leaving.get(f"/sync/logs/{counting}", timeout=2)
    wait_until(lambda: went_on)
    assert went_on == ["CancelledError"]


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
            answers = [threads.submit(each.get, f"/io/{greeting}") for each in (alice, bob)]
            wait_until(lambda: local_flyte.open_calls("SelectCluster") == 2)
        assert [answer.result().status_code for answer in answers] == [200, 200]
    alice.get(f"/io/{greeting}")
    for method in ("SelectCluster", "GetActionData"):
        callers = [call.headers["authorization"] for call in received() if call.method == method]
        assert sorted(set(callers)) == sorted([bearer("alice"), bearer("bob")])
        assert callers.count(bearer("alice")) == 2 * callers.count(bearer("bob"))


# Secrets


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Everything that is logged, including loggers that do not propagate to the root."""
    sdk = logging.getLogger("flyte")
    level = sdk.level
    with caplog.at_level(logging.DEBUG):
        sdk.setLevel(logging.DEBUG)
        sdk.addHandler(caplog.handler)
        yield caplog
        sdk.setLevel(level)
        sdk.removeHandler(caplog.handler)


@pytest.mark.parametrize("code", Code)
def test_no_response_and_no_log_has_a_credential_that_flyte_quotes(
    *,
    hurried: httpx.Client,
    local_flyte: LocalFlyte,
    greeting: str,
    code: Code,
    logged: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    failed = 0
    for verb, path, methods in (
        ("GET", "/me", ["UserInfo"]),
        ("GET", "/sync/me", ["UserInfo"]),
        ("GET", f"/io/{greeting}", ["GetRunDetails", "SelectCluster", "GetActionData"]),
        ("GET", f"/watch/{greeting}", ["WatchActionDetails"]),
        ("GET", f"/events/{greeting}", ["TailLogs"]),
        ("POST", "/greet", ["ListTasks", "GetTaskDetails", "UploadInputs", "CreateRun"]),
    ):
        for method in methods:
            said = f"no good: Bearer {TOKEN[:24]}, {KEY}"
            local_flyte.fail_next(method, code, times=20, message=said)
            answer = hurried.request(verb, path)
            local_flyte.fail_next(method, code, times=0)
            failed += not answer.is_success
            assert TOKEN[:24] not in answer.text, (path, method)
            assert KEY not in answer.text, (path, method)
    assert failed
    told = logged.text + "".join(capfd.readouterr())
    assert TOKEN[:24] not in told
    assert KEY not in told

"""What the largest messages cost somebody else: the wait of their ``GET /me``, and the memory.

The app is a process of its own. What alice asks for is as large as it may be; bob asks who he is,
again and again. The local Flyte answers both.
"""

import re
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from flyteidl2.common.identifier_pb2 import ActionIdentifier, RunIdentifier
from flyteidl2.common.phase_pb2 import ACTION_PHASE_RUNNING, ACTION_PHASE_SUCCEEDED
from flyteidl2.core.literals_pb2 import Literal
from flyteidl2.core.types_pb2 import LiteralType
from flyteidl2.dataproxy.dataproxy_service_pb2 import GetActionDataResponse, TailLogsResponse
from flyteidl2.logs.dataplane.payload_pb2 import LogLine
from flyteidl2.task.task_definition_pb2 import TaskSpec
from flyteidl2.workflow import run_definition_pb2 as runs
from flyteidl2.workflow import run_service_pb2 as pb
from google.protobuf.message import Message
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from local_flyte import PEOPLE, LocalFlyte
from local_flyte.serving import listen
from local_flyte.testing import bearer

from .served import started

pytestmark = pytest.mark.slow

MEGABYTE = 1_000_000
WAIT = 1.0  # seconds, on a machine with two idle cores
WORK = 0.024  # seconds that such a machine takes for `work`
MEMORY = 250 * MEGABYTE  # at most, while they are served
LEFT = 150 * MEGABYTE  # afterwards
STREAM_SECONDS, QUIET_SECONDS = 2.0, 0.5  # that a stream is read, and that it is waited for more
RUN = RunIdentifier(org="local", project="flytesnacks", domain="development", name="large")
STREAM = "application/connect+proto"


def identifier(name: str = "a0") -> ActionIdentifier:
    return ActionIdentifier(run=RUN, name=name)


def spec(size: int) -> TaskSpec:
    """Return a task's spec of very many small parts, as its author may write them."""
    made = TaskSpec()
    made.task_template.type = "python"
    variables = made.task_template.container.env
    for number in range(size // 12):
        variables.add(key=f"{number:06}", value="")
    return made


def details(phase: int, size: int) -> runs.ActionDetails:
    made = runs.ActionDetails(id=identifier(), task=spec(size))
    made.status.phase = phase  # type: ignore[assignment]
    number = LiteralType(collection_type=LiteralType(simple="FLOAT"))
    for variables in (
        made.task.task_template.interface.inputs,
        made.task.task_template.interface.outputs,
    ):
        variables.variables.add(key="x").value.type.CopyFrom(number)
    return made


def data() -> GetActionDataResponse:
    """Return as many inputs and outputs as Flyte returns: 2 MiB of each."""
    made = GetActionDataResponse()
    numbers = Literal(
        collection={
            "literals": [
                {"scalar": {"primitive": {"float_value": n + 0.5}}} for n in range(120_000)
            ]
        }
    )
    made.inputs.literals.add(name="x", value=numbers)
    made.outputs.literals.add(name="x", value=numbers)
    return made


def actions(count: int) -> list[pb.WatchActionsResponse]:
    messages = []
    for start in range(0, count, 1000):
        messages.append(message := pb.WatchActionsResponse())
        for number in range(start, start + 1000):
            action = message.enriched_actions.add().action
            action.id.CopyFrom(identifier(f"a{number}"))
            action.status.phase = ACTION_PHASE_SUCCEEDED if number else ACTION_PHASE_RUNNING
            action.metadata.task.short_name = "greet"
    return messages


def log() -> list[TailLogsResponse]:
    lines = [LogLine(message=f"line {number} of very many") for number in range(100_000)]
    return [TailLogsResponse(logs=[TailLogsResponse.Logs(lines=lines)])]


@dataclass
class Large:
    """Wraps the services of a local Flyte: alice's calls get large answers."""

    flyte: LocalFlyte
    answers: dict[str, list[bytes]] = field(default_factory=dict)
    """By method; streams then stay open."""

    def __post_init__(self) -> None:
        services = self.flyte._services.applications
        for path, service in [*services.items()]:
            services[path] = self._wrapped(service)

    def send(self, **messages: Message | list[Any]) -> None:
        """Answer these methods with these messages from now on."""
        self.answers = {
            method: [
                one.SerializeToString() for one in (some if isinstance(some, list) else [some])
            ]
            for method, some in messages.items()
        }

    def _wrapped(self, service: ASGIApp) -> ASGIApp:
        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            headers = Headers(scope=scope)
            answer = self.answers.get(scope["path"].rpartition("/")[2])
            if answer is None or headers.get("authorization") != bearer("alice"):
                await service(scope, receive, send)
                return
            while (await receive()).get("more_body"):
                pass
            is_stream = headers["content-type"] == STREAM
            kind = STREAM if is_stream else "application/proto"
            start = [(b"content-type", kind.encode())]
            await send({"type": "http.response.start", "status": 200, "headers": start})
            for message in answer:
                body = struct.pack(">BI", 0, len(message)) + message if is_stream else message
                await send({"type": "http.response.body", "body": body, "more_body": is_stream})
            while is_stream and (await receive())["type"] != "http.disconnect":
                pass

        return serve


class Process:
    """The app's process, and its memory in bytes."""

    def __init__(self, url: str, pid: int) -> None:
        self.url, self._folder = url, Path(f"/proc/{pid}")

    def _status(self, name: str) -> int:
        found = re.search(rf"{name}:\s+(\d+)", (self._folder / "status").read_text())
        assert found
        return 1024 * int(found[1])

    @property
    def memory(self) -> int:
        return self._status("VmRSS")

    @property
    def peak(self) -> int:
        return self._status("VmHWM")

    def forget_peak(self) -> None:
        (self._folder / "clear_refs").write_text("5")


def slowness() -> float:
    """Return how much slower this machine is now than two idle cores."""

    def work() -> float:
        began = time.perf_counter()
        sum(range(2_000_000))
        return time.perf_counter() - began

    return max(1.0, min(work() for _ in range(5)) / WORK)


@pytest.fixture(scope="module")
def large() -> Iterator[Large]:
    with LocalFlyte() as flyte:
        yield Large(flyte)


@pytest.fixture(scope="module")
def process(
    large: Large, default_project: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Process]:
    """The app, which has answered before."""
    with listen() as listener, ExitStack() as stack:
        url, number = f"http://127.0.0.1:{listener.getsockname()[1]}", listener.fileno()
        variables = {"FLYTE_TIMEOUT": "60", "OPEN_REQUESTS_PER_CALLER": "20"}
        variables |= large.flyte.app_environment()
        log = tmp_path_factory.mktemp("weight") / "log"
        command = f"uvicorn app.main:app --fd {number} --no-access-log"
        program = stack.enter_context(
            started(command, default_project, f"{url}/health", variables, log, number)
        )
        assert httpx.get(f"{url}/me", headers={"Authorization": bearer("bob")}).is_success
        yield Process(url, program.pid)


@dataclass
class Cost:
    """What somebody else has waited, in seconds, and the memory, in bytes."""

    usually: float = 0.0
    waits: list[float] = field(default_factory=list)
    peak: int = 0
    left: int = 0

    def __str__(self) -> str:
        waits = sorted(self.waits)
        return (
            f"GET /me: {max(waits):.2f} s at worst of {len(waits)} (without: {self.usually:.3f});"
            f" memory: {self.peak / MEGABYTE:.0f} MB more at most, {self.left / MEGABYTE:.0f} after"
        )


@contextmanager
def watched(process: Process) -> Iterator[Cost]:
    """Ask who bob is, again and again, while the block runs."""
    cost, done = Cost(), threading.Event()
    with httpx.Client(
        base_url=process.url, headers={"Authorization": bearer("bob")}, timeout=60
    ) as bob:

        def ask() -> float:
            began = time.perf_counter()
            assert bob.get("/me").json()["subject"] == PEOPLE["bob"].subject
            return time.perf_counter() - began

        def ask_on() -> None:
            while not done.is_set():
                cost.waits.append(ask())

        cost.usually = max(ask() for _ in range(20))
        process.forget_peak()
        before = process.memory
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(ask_on)
            try:
                yield cost
            finally:
                done.set()
                asking.result()
        cost.peak, cost.left = process.peak - before, process.memory - before


def small(phase: int) -> pb.GetRunDetailsResponse:
    """Return what is known of the run, without anything large."""
    return pb.GetRunDetailsResponse(details=runs.RunDetails(action=details(phase, 0)))


def of_task(size: int) -> dict[str, Message]:
    """Return the answers about a run that goes on, and whose task has a spec of this size."""
    action = details(ACTION_PHASE_RUNNING, size)
    return {
        "GetRunDetails": pb.GetRunDetailsResponse(details=runs.RunDetails(action=action)),
        "GetActionDetails": pb.GetActionDetailsResponse(details=action),
        "WatchActionDetails": pb.WatchActionDetailsResponse(details=action),
    }


LISTS = b"[" + b"[0]," * (MEGABYTE // 4) + b"[0]]"  # as many values as fit into a body
RUN_TASK = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "run_task",'
RUN_TASK += b'"arguments": {"name": "t", "inputs": {"x": '
AGENT = {"Accept": "application/json", "MCP-Protocol-Version": "2025-06-18"}


@dataclass(frozen=True)
class Kind:
    """A request of alice's, and what Flyte answers to its calls."""

    url: str
    statuses: set[int]
    answers: Callable[[], Mapping[str, Message | list[Any]]] = dict
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


KINDS = {
    "a body": Kind("/tasks/t/runs", {404, 413, 422}, content=b'{"inputs": {"x": %b}}' % LISTS),
    "a body of nobody": Kind(
        "/tasks/t/runs",
        {401, 413, 422},
        content=b'{"inputs": {"x": %b}}' % LISTS,
        headers={"Authorization": "Bearer invented"},
    ),
    "a message of an agent": Kind(
        "/mcp",
        {200, 400, 413},
        content=b'%b "arguments": {"name": "t", "inputs": {"x": %b0]}}}}'
        % (RUN_TASK, LISTS[:200_000]),
        headers=AGENT,
    ),
    "inputs and outputs": Kind(
        "/runs/large/io",
        {200},
        lambda: {"GetRunDetails": small(ACTION_PHASE_SUCCEEDED), "GetActionData": data()},
    ),
    "a run": Kind("/runs/large", {200}, lambda: of_task(2_400_000)),
    "events": Kind("/runs/large/events", {200}, lambda: of_task(2_400_000)),
    "a log": Kind("/runs/large/logs", {200}, lambda: of_task(0) | {"TailLogs": log()}),
    "5,000 actions": Kind(
        "/runs/large/actions/events", {200}, lambda: of_task(0) | {"WatchActions": actions(5000)}
    ),
}


class Client:
    """A client of alice's, who reads a stream until it is quiet, or for some seconds."""

    def __init__(self, process: Process, kind: Kind) -> None:
        self._kind = kind
        headers = {"Authorization": bearer("alice"), "Content-Type": "application/json"}
        timeout = httpx.Timeout(120, read=120)
        self._http = httpx.Client(
            base_url=process.url, headers=headers | dict(kind.headers), timeout=timeout
        )

    def open(self) -> int:
        """Return the status, once the answer, or what there is of a stream, has been read."""
        method = "POST" if self._kind.content else "GET"
        request = self._http.build_request(method, self._kind.url, content=self._kind.content)
        self._answer = self._http.send(request, stream=True)
        if "event-stream" not in self._answer.headers["content-type"]:
            self._answer.read()
            return self._answer.status_code
        until = time.monotonic() + STREAM_SECONDS
        request.extensions["timeout"]["read"] = QUIET_SECONDS
        with suppress(httpx.ReadTimeout):
            for _ in self._answer.iter_raw():
                if time.monotonic() > until:
                    break
        return self._answer.status_code

    def retry_after(self) -> int:
        return int(self._answer.headers.get("retry-after", 0))

    def close(self) -> None:
        self._http.close()


@contextmanager
def asked(process: Process, kind: Kind, times: int) -> Iterator[list[tuple[int, Client]]]:
    """Send a request several times at once; leave all at the end of the block."""
    with ExitStack() as stack, ThreadPoolExecutor(times) as pool:
        clients = [Client(process, kind) for _ in range(times)]
        for client in clients:
            stack.callback(client.close)
        yield [*zip(pool.map(Client.open, clients), clients, strict=True)]


def check(cost: Cost) -> None:
    print(cost)
    assert max(cost.waits) < WAIT * slowness() + cost.usually, str(cost)
    assert cost.peak < MEMORY, str(cost)
    assert cost.left < LEFT, str(cost)


@pytest.mark.parametrize("name", KINDS)
def test_ten_of_the_largest_message_at_once_delay_and_fill_nothing(
    large: Large, process: Process, name: str
) -> None:
    kind = KINDS[name]
    large.send(**kind.answers())
    with watched(process) as cost, asked(process, kind, 10) as answers:
        assert {status for status, _ in answers} <= kind.statuses
    check(cost)


def test_streams_of_the_largest_run_leave_nothing_behind(large: Large, process: Process) -> None:
    kind = KINDS["events"]
    large.send(**kind.answers())
    with watched(process) as cost:
        for _ in range(8):
            with asked(process, kind, 1) as answers:
                assert [status for status, _ in answers] == [200]
    check(cost)


def test_a_caller_who_sends_a_hundred_at_once_is_refused_the_rest(
    large: Large, process: Process
) -> None:
    kind = KINDS["inputs and outputs"]
    large.send(**kind.answers())
    with watched(process) as cost, asked(process, kind, 100) as answers:
        refused = [client for status, client in answers if status == 429]
        assert {status for status, _ in answers} == {200, 429}
        assert refused
        assert all(client.retry_after() for client in refused)
    check(cost)

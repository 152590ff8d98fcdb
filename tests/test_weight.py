"""What the largest messages cost somebody else: the wait of their ``GET /me``, and the memory.

The app is a process of its own. What alice asks for is as large as it may be; bob asks who he is,
again and again. The local Flyte answers both.
"""

import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from pathlib import Path

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
STREAM_SECONDS, QUIET_SECONDS = 1.0, 0.3  # that a stream is read, and that it is waited for more
OPEN_REQUESTS = 15  # of a caller
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


def actions(count: int) -> list[Message]:
    messages: list[Message] = []
    for start in range(0, count, 1000):
        message = pb.WatchActionsResponse()
        messages.append(message)
        for number in range(start, min(start + 1000, count)):
            action = message.enriched_actions.add().action
            action.id.CopyFrom(identifier(f"a{number}"))
            action.status.phase = ACTION_PHASE_SUCCEEDED if number else ACTION_PHASE_RUNNING
            action.metadata.task.short_name = "greet"
    return messages


def log() -> Message:
    lines = [LogLine(message=f"line {number} of very many " * 2) for number in range(50_000)]
    return TailLogsResponse(logs=[TailLogsResponse.Logs(lines=lines)])


class Large:
    """Wraps the services of a local Flyte: alice's calls get large answers."""

    def __init__(self, flyte: LocalFlyte) -> None:
        self.flyte = flyte
        self.answers: Mapping[str, list[bytes]] = {}  # by method; streams then stay open
        services = flyte._services.applications
        for path, service in [*services.items()]:
            services[path] = self._wrapped(service)

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
            start = [(b"content-type", headers["content-type"].encode())]
            await send({"type": "http.response.start", "status": 200, "headers": start})
            for message in answer:
                body = struct.pack(">BI", 0, len(message)) + message if is_stream else message
                await send({"type": "http.response.body", "body": body, "more_body": is_stream})
            while is_stream and (await receive())["type"] != "http.disconnect":
                pass

        return serve


@dataclass
class Process:
    """The app's process, and its memory in bytes."""

    url: str
    pid: int

    def memory(self, name: str) -> int:
        """Return ``VmRSS``, what it has now, or ``VmHWM``, what it had at most."""
        status = Path(f"/proc/{self.pid}/status").read_text("utf-8")
        return 1024 * int(status.partition(f"{name}:")[2].split()[0])


def slowness() -> float:
    """Return how much slower this machine is now than two idle cores."""
    took = []
    for _ in range(5):
        began = time.perf_counter()
        sum(range(2_000_000))
        took.append(time.perf_counter() - began)
    return max(1.0, min(took) / WORK)


@pytest.fixture(scope="module")
def large() -> Iterator[Large]:
    with LocalFlyte() as flyte:
        yield Large(flyte)


@pytest.fixture(scope="module")
def process(
    large: Large, default_project: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Process]:
    """The app, which has answered before."""
    with listen() as listener:
        url, number = f"http://127.0.0.1:{listener.getsockname()[1]}", listener.fileno()
        variables = {"FLYTE_TIMEOUT": "60", "OPEN_REQUESTS_PER_CALLER": str(OPEN_REQUESTS)}
        variables |= large.flyte.app_environment()
        log = tmp_path_factory.mktemp("weight") / "log"
        command = f"uvicorn app.main:app --fd {number} --no-access-log"
        with started(command, default_project, f"{url}/health", variables, log, number) as program:
            assert httpx.get(f"{url}/me", headers={"Authorization": bearer("bob")}).is_success
            yield Process(url, program.pid)


@contextmanager
def nobody_else_notices(process: Process) -> Iterator[None]:
    """Ask who bob is, again and again, while the block runs; measure his waits, and the memory."""
    waits, done = list[float](), threading.Event()
    with httpx.Client(
        base_url=process.url, headers={"Authorization": bearer("bob")}, timeout=60
    ) as bob:

        def ask() -> float:
            began = time.perf_counter()
            assert bob.get("/me").json()["subject"] == PEOPLE["bob"].subject
            return time.perf_counter() - began

        def ask_on() -> None:
            while not done.is_set():
                waits.append(ask())

        usually = max(ask() for _ in range(10))
        Path(f"/proc/{process.pid}/clear_refs").write_text("5", "utf-8")  # forgets the peak
        before = process.memory("VmRSS")
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(ask_on)
            try:
                yield
            finally:
                done.set()
                asking.result()
    peak, left = (process.memory(name) - before for name in ("VmHWM", "VmRSS"))
    cost = f"{max(waits):.2f} s, usually {usually:.3f}; {peak=:,} {left=:,} bytes"
    print(cost)
    assert max(waits) < WAIT * slowness() + usually, cost
    assert peak < MEMORY, cost
    assert left < LEFT, cost


def small(phase: int) -> pb.GetRunDetailsResponse:
    """Return what is known of the run, without anything large."""
    return pb.GetRunDetailsResponse(details=runs.RunDetails(action=details(phase, 0)))


def of_task(size: int) -> dict[str, Message | list[Message]]:
    """Return the answers about a run that goes on, and whose task has a spec of this size."""
    action = details(ACTION_PHASE_RUNNING, size)
    return {
        "GetRunDetails": pb.GetRunDetailsResponse(details=runs.RunDetails(action=action)),
        "GetActionDetails": pb.GetActionDetailsResponse(details=action),
        "WatchActions": actions(1),
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
    answers: Callable[[], Mapping[str, Message | list[Message]]] = dict
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


@cache
def answers_to(kind: str) -> Mapping[str, list[bytes]]:
    """Return what Flyte answers to the calls of a kind of request, by method."""
    return {
        method: [each.SerializeToString() for each in (some if isinstance(some, list) else [some])]
        for method, some in KINDS[kind].answers().items()
    }


def send(process: Process, kind: Kind, all_answered: threading.Barrier) -> httpx.Response:
    """Return the answer, read to its end; of a stream, what comes within some seconds.

    Nobody reads a stream before all have been answered.
    """
    headers = {"Authorization": bearer("alice"), "Content-Type": "application/json"}
    headers |= kind.headers
    with httpx.Client(base_url=process.url, headers=headers, verify=False) as alice:
        method = "POST" if kind.content else "GET"
        request = alice.build_request(method, kind.url, content=kind.content, timeout=120)
        answer = alice.send(request, stream=True)
        is_stream = "event-stream" in answer.headers["content-type"]
        if not is_stream:
            answer.read()
        all_answered.wait(120)
        request.extensions["timeout"]["read"] = QUIET_SECONDS
        until = time.monotonic() + STREAM_SECONDS
        with suppress(httpx.ReadTimeout):
            for _ in answer.iter_raw() if is_stream else ():
                if time.monotonic() > until:
                    break
        return answer


def send_at_once(process: Process, name: str, times: int) -> list[httpx.Response]:
    """Return the answers to a request that is sent several times at once."""
    all_answered = threading.Barrier(times)
    with ThreadPoolExecutor(times) as pool:
        sent = [pool.submit(send, process, KINDS[name], all_answered) for _ in range(times)]
        return [each.result() for each in sent]


@pytest.mark.parametrize("name", KINDS)
def test_ten_of_the_largest_message_at_once_delay_and_fill_nothing(
    large: Large, process: Process, name: str
) -> None:
    large.answers = answers_to(name)
    with nobody_else_notices(process):
        answers = send_at_once(process, name, 10)
    assert {answer.status_code for answer in answers} <= KINDS[name].statuses


def test_streams_of_the_largest_run_leave_nothing_behind(large: Large, process: Process) -> None:
    large.answers = answers_to("events")
    with nobody_else_notices(process):
        answers = [*chain(*(send_at_once(process, "events", 1) for _ in range(8)))]
    assert {answer.status_code for answer in answers} == {200}


def test_a_caller_who_opens_a_hundred_streams_at_once_is_refused_the_rest(
    large: Large, process: Process
) -> None:
    large.answers = answers_to("events")
    with nobody_else_notices(process):
        answers = send_at_once(process, "events", 100)
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) == 100 - OPEN_REQUESTS
    assert all(int(answer.headers["retry-after"]) for answer in refused)
    assert {answer.status_code for answer in answers} == {200, 429}

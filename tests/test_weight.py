"""What the largest messages cost somebody else: the wait of their ``GET /me``, and the memory.

The app is a process of its own. What alice asks for is as large as it may be; bob asks who he is,
again and again. The local Flyte answers both.
"""

import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from flyteidl2.common.phase_pb2 import (
    ACTION_PHASE_RUNNING,
    ACTION_PHASE_SUCCEEDED,
)
from flyteidl2.dataproxy.dataproxy_service_pb2 import GetActionDataResponse, TailLogsResponse
from flyteidl2.task.task_service_pb2 import GetTaskDetailsResponse
from flyteidl2.workflow import run_service_pb2 as pb
from flyteidl2.workflow.run_definition_pb2 import ActionDetails
from google.protobuf.message import Message
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from local_flyte import PEOPLE, LocalFlyte
from local_flyte.testing import bearer, client_of

from .served import App, serving_app

pytestmark = pytest.mark.slow

MEGABYTE = 1_000_000
WAIT = 1.0  # seconds, on a machine with two idle cores
WORK = 0.024  # seconds that such a machine takes for the sum in `slowness`
MEMORY = 250 * MEGABYTE  # at most, while they are served
LEFT = 150 * MEGABYTE  # afterwards
STREAM_SECONDS, QUIET_SECONDS = 1.0, 0.3  # that a stream is read, and that it is waited for more
OPEN_REQUESTS = 15  # of a caller
RUN = {"org": "local", "project": "flytesnacks", "domain": "development", "name": "large"}
STREAM = "application/connect+proto"
Answers = dict[str, list[Message]]
"""What Flyte answers to the calls of a request, by method; streams then stay open."""


def details(phase: int, parts: int = 0) -> ActionDetails:
    """Return details of the run, whose task has a spec of that many small parts."""
    numbers = {"key": "x", "value": {"type": {"collection_type": {"simple": "FLOAT"}}}}
    template = {
        "type": "python",
        "container": {"env": [{"key": f"{number:06}", "value": ""} for number in range(parts)]},
        "interface": {key: {"variables": [numbers]} for key in ("inputs", "outputs")},
    }
    task = {"task_template": template}
    return ActionDetails(id={"run": RUN, "name": "a0"}, status={"phase": phase}, task=task)


def run(phase: int, parts: int = 0) -> Answers:
    """Return the answers about the run and its first action."""
    action = details(phase, parts)
    return {
        "GetRunDetails": [pb.GetRunDetailsResponse(details={"action": action})],
        "GetActionDetails": [pb.GetActionDetailsResponse(details=action)],
        **actions(1),
    }


def data() -> Answers:
    """Return as many inputs and outputs as Flyte returns: 2 MiB of each."""
    numbers = [{"scalar": {"primitive": {"float_value": n + 0.5}}} for n in range(120_000)]
    literals = {"literals": [{"name": "x", "value": {"collection": {"literals": numbers}}}]}
    return {"GetActionData": [GetActionDataResponse(inputs=literals, outputs=literals)]}


def actions(count: int) -> Answers:
    """Return what a watch of a run with that many actions begins with."""
    made = [
        {
            "id": {"run": RUN, "name": f"a{number}"},
            "status": {"phase": ACTION_PHASE_SUCCEEDED if number else ACTION_PHASE_RUNNING},
            "metadata": {"task": {"short_name": "greet"}},
        }
        for number in range(count)
    ]
    enriched = [{"action": action} for action in made]
    parts = [enriched[start : start + 1000] for start in range(0, count, 1000)]
    return {"WatchActions": [pb.WatchActionsResponse(enriched_actions=part) for part in parts]}


def log() -> Answers:
    lines = [{"message": f"line {number} of very many " * 2} for number in range(50_000)]
    return {"TailLogs": [TailLogsResponse(logs=[{"lines": lines}])]}


class Large:
    """Wraps the services of a local Flyte: alice's calls get large answers."""

    def __init__(self, flyte: LocalFlyte) -> None:
        self.flyte = flyte
        self.answers: dict[str, list[bytes]] = {}
        services = flyte._services.applications
        for path, service in [*services.items()]:
            services[path] = self._wrapped(service)

    def give(self, answers: Answers) -> None:
        self.answers = {
            method: [message.SerializeToString() for message in messages]
            for method, messages in answers.items()
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
            start = [(b"content-type", headers["content-type"].encode())]
            await send({"type": "http.response.start", "status": 200, "headers": start})
            for message in answer:
                body = struct.pack(">BI", 0, len(message)) + message if is_stream else message
                await send({"type": "http.response.body", "body": body, "more_body": is_stream})
            while is_stream and (await receive())["type"] != "http.disconnect":
                pass

        return serve


def schema() -> Answers:
    """Return the answer about a task whose only input has very many fields."""
    fields = {f"field {number}": {"type": "integer"} for number in range(20_000)}
    struct = {"type": {"simple": "STRUCT", "metadata": {"properties": fields}}}
    template = {"interface": {"inputs": {"variables": [{"key": "x", "value": struct}]}}}
    details = {"spec": {"task_template": template}}
    return {"GetTaskDetails": [GetTaskDetailsResponse(details=details)]}


def slowness() -> float:
    """Return how much slower this machine is now than two idle cores: others may use them."""
    took = []
    for _ in range(5):
        began = time.perf_counter()
        sum(range(2_000_000))
        took.append(time.perf_counter() - began)
    return max(1.0, max(took) / WORK)


@pytest.fixture(scope="module")
def large() -> Iterator[Large]:
    with LocalFlyte() as flyte:
        yield Large(flyte)


@pytest.fixture(scope="module")
def process(
    large: Large, default_project: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[App]:
    """The app, which has answered before."""
    log, limit = tmp_path_factory.mktemp("weight") / "log", str(OPEN_REQUESTS)
    variables = {"FLYTE_TIMEOUT": "60", "OPEN_REQUESTS_PER_CALLER": limit}
    with serving_app(default_project, log, large.flyte, signs_in=False, **variables) as app:
        with client_of(app.url, "bob") as bob:
            assert bob.get("/me").is_success
        yield app


@contextmanager
def nobody_else_notices(process: App) -> Iterator[None]:
    """Ask who bob is, again and again, while the block runs; measure his waits, and the memory."""
    waits, done = list[float](), threading.Event()
    with client_of(process.url, "bob") as bob:

        def ask() -> float:
            began = time.perf_counter()
            assert bob.get("/me").json()["subject"] == PEOPLE["bob"].subject
            return time.perf_counter() - began

        def ask_on() -> None:
            while not done.is_set():
                waits.append(ask())

        slow, usually = slowness(), max(ask() for _ in range(10))
        process.forget_the_peak()
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
    assert max(waits) < WAIT * max(slow, slowness()) + usually, cost
    assert peak < MEMORY, cost
    assert left < LEFT, cost


LISTS = b"[" + b"[0]," * (MEGABYTE // 4) + b"[0]]"  # as many values as fit into a body
BODY = b'{"inputs": {"x": %b}}' % LISTS
RUN_TASK = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "run_task",'
RUN_TASK += b'"arguments": {"name": "t", "body": {"inputs": {"x": %b]}}}}}' % LISTS[:200_000]
NOBODY = {"Authorization": "Bearer invented"}
JSON = {"Content-Type": "application/json"}
AGENT = {"Accept": "application/json", "MCP-Protocol-Version": "2025-06-18"}


@dataclass(frozen=True)
class Kind:
    """A request of alice's, and what Flyte answers to its calls."""

    url: str
    statuses: set[int]
    answers: Callable[[], Answers] = dict
    content: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


RUNNING, ENDED = ACTION_PHASE_RUNNING, ACTION_PHASE_SUCCEEDED
LARGEST = 200_000  # parts: 2.4 MB
KINDS = {
    "a body": Kind("/tasks/t/runs", {404, 413, 422}, content=BODY),
    "a body of nobody": Kind("/tasks/t/runs", {401, 413, 422}, content=BODY, headers=NOBODY),
    "a message of an agent": Kind("/mcp", {200}, content=RUN_TASK, headers=AGENT),
    "inputs and outputs": Kind("/runs/large/io", {200}, lambda: run(ENDED) | data()),
    "a run": Kind("/runs/large", {200}, lambda: run(RUNNING, LARGEST)),
    "events": Kind("/runs/large/events", {200}, lambda: run(RUNNING, LARGEST)),
    "a schema": Kind("/tasks/t?version=1", {200}, schema),
    "a log": Kind("/runs/large/logs", {200}, lambda: run(RUNNING) | log()),
    "5,000 actions": Kind(
        "/runs/large/actions/events", {200}, lambda: run(RUNNING) | actions(5000)
    ),
}


def send(process: App, kind: Kind, all_answered: threading.Barrier) -> httpx.Response:
    """Return the answer, read to its end; of a stream, what comes within some seconds.

    Nobody reads a stream before all have been answered.
    """
    method, headers = "POST" if kind.content else "GET", JSON | kind.headers
    with (
        client_of(process.url, "alice") as alice,
        alice.stream(method, kind.url, content=kind.content, headers=headers) as answer,
    ):
        is_stream = "event-stream" in answer.headers["content-type"]
        if not is_stream:
            answer.read()
        all_answered.wait(120)
        answer.request.extensions["timeout"]["read"] = QUIET_SECONDS
        until = time.monotonic() + STREAM_SECONDS
        with suppress(httpx.ReadTimeout):
            for _ in answer.iter_raw() if is_stream else ():
                if time.monotonic() > until:
                    break
        return answer


def send_at_once(process: App, kind: Kind, times: int) -> list[httpx.Response]:
    """Return the answers to a request that is sent several times at once."""
    all_answered = threading.Barrier(times)
    with ThreadPoolExecutor(times) as pool:
        return [*pool.map(send, [process] * times, [kind] * times, [all_answered] * times)]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_ten_of_the_largest_message_at_once_delay_and_fill_nothing(
    large: Large, process: App, kind: Kind
) -> None:
    large.give(kind.answers())
    with nobody_else_notices(process):
        answers = send_at_once(process, kind, 10)
    assert {answer.status_code for answer in answers} <= kind.statuses


def test_streams_of_the_largest_run_leave_nothing_behind(large: Large, process: App) -> None:
    large.give(KINDS["events"].answers())
    with nobody_else_notices(process):
        answers = [send_at_once(process, KINDS["events"], 1)[0] for _ in range(8)]
    assert {answer.status_code for answer in answers} == {200}


def test_a_caller_who_opens_a_hundred_streams_at_once_is_refused_the_rest(
    large: Large, process: App
) -> None:
    large.give(KINDS["events"].answers())
    with nobody_else_notices(process):
        answers = send_at_once(process, KINDS["events"], 100)
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) == 100 - OPEN_REQUESTS
    assert all(int(answer.headers["retry-after"]) for answer in refused)
    assert {answer.status_code for answer in answers} == {200, 429}

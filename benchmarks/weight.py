"""What the largest messages cost: the app's memory, and somebody else's wait for ``GET /me``.

    python benchmarks/weight.py [TEXT ...]

Prints a Markdown table, of the rows with one of the texts in their names, and fails if a row is
beyond its goal. Alice sends; bob asks who he is, again and again. The requests are those of the
generated app's OpenAPI document, also as tools: ten at once, and twenty that wait. Flyte's answers
to alice are as large as people can store them. Linux only: it reads /proc.

Most of a long wait may be the local Flyte's, which is one process for all: see
``flyte_duration_ms`` in the app's log.
"""

import asyncio
import json
import multiprocessing
import re
import struct
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from flyteidl2.common.phase_pb2 import (
    ACTION_PHASE_PAUSED,
    ACTION_PHASE_QUEUED,
    ACTION_PHASE_RUNNING,
    ACTION_PHASE_SUCCEEDED,
)
from flyteidl2.core.security_pb2 import SecurityContext
from flyteidl2.dataproxy import dataproxy_service_pb2 as data
from flyteidl2.task import task_service_pb2 as tasks
from flyteidl2.workflow import run_service_pb2 as runs
from flyteidl2.workflow.run_definition_pb2 import ActionDetails
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import ListValue, Value
from servers import ROOT, generate
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

sys.path[:0] = [str(ROOT), str(ROOT / "tools"), str(ROOT / "{{cookiecutter.project_slug}}")]

from local_flyte import LocalFlyte  # noqa: E402 - of the template
from local_flyte.testing import bearer  # noqa: E402
from tests.served import App, serving_app  # noqa: E402

MEGABYTE = 1_000_000
PARTS = 1_100_000  # of a task's spec: 2.2 MB, and 110 MB in memory
PARTS_OF_RERUN = 499_000  # of a task's spec that the app still reruns
WAIT = 5  # seconds
PIECE = 64 * 1024  # bytes that Flyte sends at once
PEAK = 250  # megabytes at most, more than before
HANGS: list[Message] = []  # no response to a call
RUN = {"org": "local", "project": "flytesnacks", "domain": "development", "name": "large"}
STREAM = "application/connect+proto"
OPTIONS: dict[str, Any] = {  # of clients: as many connections as they need
    "timeout": 120,
    "limits": httpx.Limits(max_connections=None),
    "trust_env": False,
}
EXAMPLES: dict[str, Any] = {
    "run_task": {"json": {"inputs": {"x": [0.5] * 20_000}}},
    "answer_condition": {"json": {"value": True}},
    "upload_file": {"content": 10 * MEGABYTE * b"x"},
}
"""What requests need besides what the document says, by operation id."""


def details(parts: int = PARTS) -> ActionDetails:
    """Return details of the run, whose task has a spec of that many small parts."""
    numbers = {"key": "x", "value": {"type": {"collection_type": {"simple": "FLOAT"}}}}
    one = SecurityContext(secrets=[{}]).SerializeToString()
    template = {
        "type": "python",
        "security_context": SecurityContext.FromString(parts * one),
        "interface": {key: {"variables": [numbers]} for key in ("inputs", "outputs")},
    }
    task = {"task_template": template}
    status = {"phase": ACTION_PHASE_RUNNING, "attempts": 1}
    return ActionDetails(id={"run": RUN, "name": "a0"}, status=status, task=task)


def asked() -> dict[str, list[Message]]:
    """Return what Flyte answers about a question whose type has that many parts."""
    parts = ListValue.FromString(PARTS * ListValue(values=[Value()]).SerializeToString())
    kind = {"simple": "BOOLEAN", "metadata": {"fields": {"x": {"list_value": parts}}}}
    question: Any = {"name": "a question", "type": kind}
    action: Any = {"id": {"run": RUN, "name": "a0"}, "status": {"phase": ACTION_PHASE_PAUSED}}
    found = ActionDetails(**action, condition=question)
    action["metadata"] = {"condition": question}
    return {
        "GetActionDetails": [runs.GetActionDetailsResponse(details=found)],
        "ListActions": [runs.ListActionsResponse(actions=[action])],
    }


def watched(count: int) -> list[Message]:
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
    return [runs.WatchActionsResponse(enriched_actions=part) for part in parts]


def log(count: int, text: str) -> list[Message]:
    """Return a message of a log, with that many lines."""
    return [data.TailLogsResponse(logs=[{"lines": [{"message": text}] * count}])]


def answers() -> dict[str, list[Message]]:
    """Return what Flyte answers to alice, by method; streams then stay open."""
    numbers = [{"scalar": {"primitive": {"float_value": n + 0.5}}} for n in range(120_000)]
    literals = {"literals": [{"name": "x", "value": {"collection": {"literals": numbers}}}]}
    large = details()
    action = {"id": large.id, "status": large.status}
    spec = {"task_template": large.task.task_template}
    report = {"signed_url": ["https://store.example.com/report"]}
    listed = tasks.ListTasksResponse(tasks=[{"task_id": {"name": "t", "version": "1"}}])
    return {
        **answers_of_details(large),
        "GetActionData": [data.GetActionDataResponse(inputs=literals, outputs=literals)],
        "GetTaskDetails": [tasks.GetTaskDetailsResponse(details={"spec": spec})],
        "ListTasks": [listed],
        "ListActions": [runs.ListActionsResponse(actions=[action])],
        "ListRuns": [runs.ListRunsResponse(runs=[{"action": action}])],
        "UploadInputs": [data.UploadInputsResponse()],
        "CreateRun": [runs.CreateRunResponse(run={"action": action})],
        "AbortRun": [runs.AbortRunResponse()],
        "AbortAction": [runs.AbortActionResponse()],
        "SignalEvent": [runs.SignalEventResponse()],
        "WatchActions": watched(1),
        "CreateDownloadLink": [data.CreateDownloadLinkResponse(pre_signed_urls=report)],
        "TailLogs": log(50_000, "a line of very many" * 4),
    }


def serialized(answers: dict[str, list[Message]]) -> dict[str, list[bytes]]:
    """Return the answers as they are sent."""
    return {
        method: [message.SerializeToString() for message in messages]
        for method, messages in answers.items()
    }


class Large:
    """Wraps the services of a local Flyte: alice's calls get other answers."""

    def __init__(self, flyte: LocalFlyte) -> None:
        self.flyte = flyte
        self._answers: dict[str, list[bytes]] = {}
        services = flyte._services.applications
        for path, service in [*services.items()]:
            services[path] = self._wrapped(service)

    def give(self, answers: dict[str, list[bytes]]) -> None:
        """Answer so from now on, by method."""
        self._answers = answers

    def _wrapped(self, service: ASGIApp) -> ASGIApp:
        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            headers = Headers(scope=scope)
            answer = self._answers.get(scope["path"].rpartition("/")[2])
            if answer is None or headers.get("authorization") != bearer("alice"):
                await service(scope, receive, send)
                return
            while (await receive()).get("more_body"):
                pass
            if answer == HANGS:
                await receive()  # until the app disconnects
                return
            is_stream = headers["content-type"] == STREAM
            start = [(b"content-type", headers["content-type"].encode())]
            await send({"type": "http.response.start", "status": 200, "headers": start})
            for message in answer:
                body = struct.pack(">BI", 0, len(message)) + message if is_stream else message
                for at in range(0, len(body), PIECE):  # bob is served in between
                    piece = body[at : at + PIECE]
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            if not is_stream:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            while is_stream and (await receive())["type"] != "http.disconnect":
                pass

        return serve


@dataclass(frozen=True)
class Row:
    """Requests of alice's that are sent at once."""

    name: str
    send: Callable[[httpx.AsyncClient], Awaitable[object]]
    times: int = 10
    seconds: float | None = None  # somebody else's longest wait, if it is promised
    before: dict[str, list[Message]] = field(default_factory=dict)  # Flyte's responses
    peak: int = PEAK


def example(operation: dict[str, Any], path: str, method: str) -> dict[str, Any]:
    """Return the arguments of httpx for a request."""
    url = re.sub("{name[^}]*}", "t" if path.startswith("/tasks") else "large", path)
    url = re.sub("{[^}]+}", "a0", url)
    given = EXAMPLES.get(operation["operationId"], {"json": {}} if method == "post" else {})
    return {"method": method.upper(), "url": url, **given}


def rows(document: dict[str, Any]) -> Iterator[Row]:
    """Yield a row for each request, tool, and wait of the OpenAPI document."""
    questions = asked()
    for path, operations in document["paths"].items():
        before = questions if "condition" in path else {}
        for method, operation in operations.items():
            if not operation["security"]:
                continue
            request, name = example(operation, path, method), f"{method.upper()} {path}"
            if operation["operationId"] == "rerun":
                before = answers_of_details(details(PARTS_OF_RERUN))
            yield Row(name, sending(request), before=before)
            if any(each["name"] == "wait" for each in operation.get("parameters", ())):
                if "json" in request:  # with a large body, the app does not wait
                    request = {**request, "json": {"inputs": {"x": []}}}
                request = {**request, "params": {"wait": WAIT}}
                yield Row(f"{name}?wait={WAIT}", sending(request))
                yield Row(f"{name}?wait={WAIT}, twenty", sending(request), times=20)
            called = tool(operation, path)
            tool_name = f"tool {operation['operationId']}"
            yield Row(tool_name, sending(called), before=before)


def tool(operation: dict[str, Any], path: str) -> dict[str, Any]:
    """Return the request with which an agent calls an operation."""
    arguments: dict[str, Any] = {"name": "t" if path.startswith("/tasks") else "large"}
    arguments |= {"action": "a0"} if "{action}" in path else {}
    given = EXAMPLES.get(operation["operationId"], {})
    if "requestBody" in operation:  # an agent's message has a quarter of a mebibyte at most
        is_file = "content" in given
        arguments["body"] = 200_000 * "x" if is_file else given.get("json", {})
    names = {each["name"] for each in operation.get("parameters", ())} | {"body"}
    arguments = {name: value for name, value in arguments.items() if name in names}
    params = {"name": operation["operationId"], "arguments": arguments}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    headers = {"Accept": "application/json, text/event-stream"}
    return {"method": "POST", "url": "/mcp", "json": message, "headers": headers}


def sending(request: dict[str, Any], seconds: float = 1.0) -> Callable[..., Awaitable[object]]:
    """Return what sends a request and reads the answer; a stream is read for these seconds."""

    async def send(client: httpx.AsyncClient) -> object:
        async with client.stream(**request) as answer:
            if "event-stream" not in answer.headers.get("content-type", ""):
                await answer.aread()
                return told(answer)
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    async for _ in answer.aiter_raw():
                        pass
            return answer.status_code

    return send


def told(answer: httpx.Response) -> object:
    """Return the status of an answer, or that an agent's call has failed."""
    result = answer.json().get("result", {}) if "/mcp" in str(answer.url) else {}
    return "error of the tool" if result.get("isError") else answer.status_code


def unread(path: str, seconds: float) -> Callable[..., Awaitable[object]]:
    """Return what opens a stream and reads nothing of it."""

    async def send(client: httpx.AsyncClient) -> object:
        async with client.stream("GET", path) as answer:
            await asyncio.sleep(seconds)
            return answer.status_code

    return send


def closing(first: int) -> Callable[..., Awaitable[object]]:
    """Return what opens streams; the first so many are closed while the others are open."""
    opened = [0]

    async def send(client: httpx.AsyncClient) -> object:
        opened[0] += 1
        return await unread("/runs/large/events", 5 if opened[0] <= first else 15)(client)

    return send


def answers_of_details(found: ActionDetails) -> dict[str, list[Message]]:
    """Return what Flyte answers about a run with these details."""
    return {
        "GetRunDetails": [runs.GetRunDetailsResponse(details={"action": found})],
        "GetActionDetails": [runs.GetActionDetailsResponse(details=found)],
    }


def get(path: str) -> Callable[..., Awaitable[object]]:
    """Return what gets a path."""
    return sending({"method": "GET", "url": path})


def scenarios() -> Iterator[Row]:
    """Yield what people do who mean harm, or have large runs."""
    ordinary = answers_of_details(details(parts=0))
    lines = ordinary | {"TailLogs": log(100, "x" * 49_000) * 3}
    reading = unread("/runs/large/logs", 8)
    yield Row("100 viewers of a log who do not read", reading, 100, before=lines, seconds=1.0)
    many = ordinary | {"WatchActions": watched(20_000)}
    reading = unread("/runs/large/actions/events", 15)
    yield Row("20 viewers of 20,000 actions", reading, 20, before=many, seconds=1.0)
    large = details(parts=0)  # in one part, which 600 can get in time
    large.task.task_template.container.args.append(200_000 * "x")
    some = answers_of_details(large)
    yield Row("100 of 600 streams are closed", closing(100), 600, before=some, seconds=1.0)
    files = {"key": "x", "value": {"type": {"union_type": {"variants": [{"blob": {}}] * 249_000}}}}
    union = inputs([files])
    yield Row("a task whose input is one of many files", get("/tasks/t"), before=union, seconds=1.0)
    tried = details(parts=0)
    tried.attempts.add(phase_transitions=[{}] * 400_000)
    phases = answers_of_details(tried)
    yield Row("an action of many phases", get("/runs/large/actions"), before=phases, seconds=1.0)
    question = {"id": tried.id, "metadata": {"condition": {"name": "a question"}}}
    page = runs.ListActionsResponse(actions=[question] * 100, token="1")  # noqa: S106 - of a page
    endless = ordinary | {"ListActions": [page]}  # to the limit of what one request receives
    asking = get("/runs/large/conditions")
    yield Row("20 lists of very many questions", asking, 20, before=endless, seconds=1.0)
    body = {"content": MEGABYTE * b"x", "headers": {"Content-Type": "text/plain"}}
    of_text = sending({"method": "POST", "url": "/runs/large/rerun", **body})
    yield Row("100 large bodies that are no JSON", of_text, 100, seconds=1.0)
    texts = wordy(50)
    yield Row("20 lists of actions with long texts", get("/runs/large/actions"), 20, before=texts)
    reading = unread("/runs/large/actions/events", 8)
    yield Row("20 viewers of long texts who do not read", reading, 20, before=texts)
    values = ListValue.FromString(1_500 * ListValue(values=[Value()]).SerializeToString())
    parts = {"simple": "STRING", "metadata": {"fields": {"x": {"list_value": values}}}}
    either = {"collection_type": {"union_type": {"variants": [parts, {"simple": "INTEGER"}]}}}
    copies = inputs([{"key": "x", "value": {"type": either}}])
    start = {"method": "POST", "url": "/tasks/t/runs", "json": {"inputs": {"x": 320 * [""]}}}
    yield Row("10 starts with 320 copies of a type", sending(start), before=copies)
    many = inputs([{"key": str(number)} for number in range(400_000)])
    yield Row("10 tasks of 400,000 inputs", get("/tasks/t"), before=many, seconds=1.0)


def inputs(variables: list[dict[str, Any]]) -> dict[str, list[Message]]:
    """Return what Flyte answers about a task with these inputs."""
    spec: Any = {"task_template": {"interface": {"inputs": {"variables": variables}}}}
    return {"GetTaskDetails": [tasks.GetTaskDetailsResponse(details={"spec": spec})]}


def wordy(count: int) -> dict[str, list[Message]]:
    """Return what Flyte answers about a run with that many actions of long texts."""
    text, asking = 20_000 * "\U0001f600", details(parts=0)
    asking.ClearField("task")
    asking.status.phase = ACTION_PHASE_QUEUED
    asking.metadata.parent = asking.metadata.group = asking.metadata.task.short_name = text
    asking.error_info.message = asking.abort_info.reason = text
    asking.condition.name = asking.condition.prompt = asking.condition.description = text
    events = [{"message": f"{number}{text}"} for number in range(5)]
    asking.attempts.add(attempt=1, cluster_events=events)
    found = answers_of_details(asking)
    states: Any = watched(count)
    listed = [enriched.action for enriched in states[0].enriched_actions]
    return {
        **answers_of_details(details(parts=0)),
        "GetActionDetails": found["GetActionDetails"],
        "ListActions": [runs.ListActionsResponse(actions=listed)],
        "WatchActions": states,
    }


def nested(size: int) -> dict[str, Any]:
    """Return the arguments of httpx for a start whose body has this size, in small lists."""
    text = b"[[[[[[[[[[[[[]]]]]]]]]]]]],"
    body = b'{"inputs": {"x": {"a": [%b0]}}}' % (text * (size // len(text)))
    headers = {"Content-Type": "application/json"}
    return {"method": "POST", "url": "/tasks/t/runs", "content": body, "headers": headers}


def hanging() -> Iterator[Row]:
    """Yield starts while Flyte hangs, and bodies of many values."""
    rerun = sending({"method": "POST", "url": "/runs/large/rerun", "json": {}})
    start = sending({"method": "POST", "url": "/tasks/t/runs", **EXAMPLES["run_task"]})
    small = answers_of_details(details(PARTS_OF_RERUN))
    for method, send in (("GetActionData", rerun), ("CreateRun", rerun), ("CreateRun", start)):
        name = f"20 {'reruns' if send is rerun else 'starts'} while {method} hangs"
        yield Row(name, send, 20, seconds=1.0, before=small | {method: HANGS}, peak=500)
    before = inputs([{"key": "x", "value": {"type": {"simple": "STRUCT"}}}])
    for times, size in ((32, 7_500), (32, 60_000), (10, MEGABYTE)):
        name = f"{times} bodies of {size:,} bytes in small lists"
        yield Row(name, sending(nested(size)), times, seconds=1.0, before=before)
    call = tool({"operationId": "run_task", "requestBody": {}}, "/tasks/t")
    call["json"]["params"]["arguments"] = {
        "name": "t",
        "body": json.loads(nested(60_000)["content"]),
    }
    yield Row("32 tool calls of 60,000 bytes in small lists", sending(call), 32, 1.0, before)


def ask(url: str, until: Connection) -> None:
    """Ask who bob is, again and again until something is sent; then send his longest wait."""
    longest = 0.0
    with httpx.Client(base_url=url, headers={"Authorization": bearer("bob")}, **OPTIONS) as client:
        while not until.poll(0.02):
            began = time.perf_counter()
            client.get("/me").raise_for_status()
            if not longest:  # the client is ready
                until.send(None)
            longest = max(longest, time.perf_counter() - began)
    until.send(longest)


@contextmanager
def in_a_process(function: Callable[..., None], *given: object) -> Iterator[Connection]:
    """Run a function in a process of its own, with one end of a pipe, and wait for its message.

    Who sends much would slow down who waits, and Flyte, in its own process.
    """
    fork = multiprocessing.get_context("fork")  # with the credentials, which each process makes
    here, there = fork.Pipe()
    process = fork.Process(target=function, args=(*given, there))
    process.start()
    there.close()  # so that this end notices if the process fails
    try:
        yield here
    finally:
        with suppress(BrokenPipeError):  # it has ended by itself
            here.send(None)
        process.join()


async def send_all(url: str, row: Row) -> list[object]:
    """Send a row's requests, and return what has become of each."""
    headers = {"Authorization": bearer("alice")}
    async with httpx.AsyncClient(base_url=url, headers=headers, **OPTIONS) as client:
        sent = [row.send(client) for _ in range(row.times)]
        return await asyncio.gather(*sent, return_exceptions=True)


def slowness() -> float:
    """Return how much slower this machine is now than two idle cores: others may use them."""
    began = time.perf_counter()
    sum(range(10_000_000))
    return max(1.0, (time.perf_counter() - began) / 0.12)


def memory(app: App, name: str) -> int:
    """Return ``VmRSS``, the bytes that a process has now, or ``VmHWM``, those it had at most."""
    status = Path(f"/proc/{app.pid}/status").read_text("utf-8")
    return 1024 * int(status.partition(f"{name}:")[2].split()[0])


def measure(app: App, row: Row) -> bool:
    """Print a row of the table, and tell whether it is within its goals."""
    slow = slowness()
    with in_a_process(ask, app.url) as bob:
        bob.recv()
        Path(f"/proc/{app.pid}/clear_refs").write_text("5", "utf-8")  # forgets the peak
        before = memory(app, "VmRSS")
        found = asyncio.run(send_all(app.url, row))
        bob.send(None)
        wait = bob.recv()
    peak, left = ((memory(app, name) - before) / MEGABYTE for name in ("VmHWM", "VmRSS"))
    statuses = Counter(
        each if isinstance(each, int | str) else type(each).__name__ for each in found
    )
    shown = ", ".join(f"{count} x {status}" for status, count in statuses.items())
    seconds = (row.seconds or float("inf")) * max(slow, slowness())
    is_within = peak < row.peak and wait < seconds
    note = "" if is_within else " **beyond**"
    megabytes = f"{before / MEGABYTE:.0f}", f"{peak:.0f} of {row.peak}{note}", f"{left:.0f}"
    print(f"| {' | '.join((row.name, shown, *megabytes, f'{wait:.2f}'))} |", flush=True)
    return is_within


def serve(until: Connection) -> None:
    """Run the app and a local Flyte, which gives the answers received, until those are None."""
    with TemporaryDirectory() as name, LocalFlyte() as flyte:
        folder, large = Path(name), Large(flyte)
        variables = {"MAX_CONCURRENT_REQUESTS_PER_CALLER": "1000"}
        project = generate(folder)
        with serving_app(project, folder / "log", flyte, signs_in=False, **variables) as app:
            until.send(app)
            while given := until.recv():
                large.give(given)
                until.send(None)


def main(texts: list[str]) -> int:
    """Print the table."""
    print("| at once | statuses | MB before | more at the peak | left | bob's longest wait in s |")
    print("|---|---|---|---|---|---|", flush=True)
    is_within = True
    with in_a_process(serve) as server:
        app = server.recv()
        with httpx.Client(**OPTIONS) as client:
            document = client.get(f"{app.url}/openapi.json").json()
        usual = serialized(answers())
        for row in (*rows(document), *scenarios(), *hanging()):
            if not texts or any(text in row.name for text in texts):
                server.send(usual | serialized(row.before))
                server.recv()
                is_within &= measure(app, row)
    return 0 if is_within else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

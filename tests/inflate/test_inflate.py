"""What people can fill, filled: the app answers, goes on, and keeps little of it.

One run, one task and one project are read, with one of Flyte's answers changed to what somebody can
store there; and bodies are sent that are as large as may be.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgpack
import pytest
from flyteidl2.core.literals_pb2 import Literal
from flyteidl2.workflow.run_definition_pb2 import ActionAttempt

from local_flyte import PEOPLE, LocalFlyte
from local_flyte.serving import listen
from local_flyte.testing import client_of, wait_until

from ..served import TASKS, started
from .changing import Changing

pytestmark = pytest.mark.weekly

HERE = Path(__file__).parent
MEMORY = 250_000_000  # bytes more than before, while a message of 2 MB is read and answered
ANSWER = 15_000_000  # bytes; a text of Flyte's may have control characters, six bytes each in JSON
TEXT = "\x01\u202e<b>" + "x" * 2_000_000
JSON = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


class Served(NamedTuple):
    """The app, the Flyte behind it, and a run that waits for an answer."""

    url: str
    pid: int
    log: Path
    flyte: Changing
    run: str

    def memory(self, field: str) -> int:
        """Return one of the sizes that the system knows of the app's process, in bytes."""
        found = re.search(rf"{field}:\s+(\d+)", Path(f"/proc/{self.pid}/status").read_text())
        assert found
        return 1024 * int(found[1])


@pytest.fixture(scope="module")
def served(default_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    log = tmp_path_factory.mktemp("inflate") / "log"
    with LocalFlyte() as flyte, listen() as listener, ExitStack() as stack:
        flyte.deploy(HERE.parent / "browser", "page_tasks.py", "env")
        changing = Changing(flyte._services.applications)
        url, number = f"http://127.0.0.1:{listener.getsockname()[1]}", listener.fileno()
        variables, command = flyte.app_environment(), f"uvicorn app.main:app --fd {number}"
        process = stack.enter_context(
            started(command, default_project, f"{url}/health", variables, log, number)
        )
        alice = stack.enter_context(client_of(url, "alice"))
        run = alice.post(f"/tasks/{TASKS}.publish/runs", json={"inputs": {"text": "all"}}).json()
        conditions = f"/runs/{run['name']}/conditions"
        wait_until(lambda: alice.get(conditions).json())
        yield Served(url, process.pid, log, changing, run["name"])


def details_of_condition(change: Callable[[Any], None]) -> Callable[[Any], None]:
    def change_it(message: Any) -> None:
        if message.details.HasField("condition"):
            change(message.details)

    return change_it


def with_value(value: dict[str, Any]) -> Callable[[Any], None]:
    def change(message: Any) -> None:
        message.inputs.literals[0].value.CopyFrom(Literal(**value))

    return change


def packed(stored: bytes) -> Callable[[Any], None]:
    return with_value({"scalar": {"binary": {"value": stored, "tag": "msgpack"}}})


def described(message: Any) -> None:
    message.details.spec.documentation.short_description = TEXT


def with_schema(message: Any) -> None:
    """A dataclass of 20,000 fields."""
    kind = message.details.spec.task_template.interface.inputs.variables[0].value.type
    kind.simple = 9  # STRUCT
    fields = {f"field {number}": {"type": "integer"} for number in range(20_000)}
    kind.metadata.update({"type": "object", "properties": fields})


def with_labels(message: Any) -> None:
    for run in message.runs:
        run.labels["a"] = TEXT


def failed(details: Any) -> None:
    details.status.phase = 6
    details.error_info.message = TEXT


MAP: dict[str, Any] = {f"key {number}": {"scalar": {"none_type": {}}} for number in range(100_000)}
NUMBERS = [{"scalar": {"primitive": {"integer": number}}} for number in range(200_000)]
LISTS: list[dict[str, Any]] = [{"collection": {}}] * 400_000
FILLED: dict[str, tuple[str, str, Callable[[Any], None]]] = {
    "a project's description": (
        *("/projects", "ListProjects"),
        lambda message: setattr(message.projects.projects[0], "description", TEXT),
    ),
    "a task's description": (f"/tasks/{TASKS}.greet", "GetTaskDetails", described),
    "a task's schema": (f"/tasks/{TASKS}.greet", "GetTaskDetails", with_schema),
    "a run's labels": ("/runs", "ListRuns", with_labels),
    "a question": (
        *("/runs/{run}/conditions", "GetActionDetails"),
        details_of_condition(lambda details: setattr(details.condition, "prompt", TEXT)),
    ),
    "an error": (
        *("/runs/{run}/actions", "GetActionDetails"),
        lambda message: failed(message.details),
    ),
    "events of the cluster": (
        *("/runs/{run}/actions", "GetActionDetails"),
        lambda message: message.details.attempts.add().cluster_events.add(message=TEXT),
    ),
    "many attempts": (
        *("/runs/{run}/actions", "GetActionDetails"),
        lambda message: message.details.attempts.extend([ActionAttempt(attempt=1)] * 20_000),
    ),
    "a text": (
        *("/runs/{run}/io", "GetActionData"),
        with_value({"scalar": {"primitive": {"string_value": TEXT}}}),
    ),
    "a map": ("/runs/{run}/io", "GetActionData", with_value({"map": {"literals": MAP}})),
    "numbers": (
        *("/runs/{run}/io", "GetActionData"),
        with_value({"collection": {"literals": NUMBERS}}),
    ),
    "lists": ("/runs/{run}/io", "GetActionData", with_value({"collection": {"literals": LISTS}})),
    "empty maps in msgpack": (
        *("/runs/{run}/io", "GetActionData"),
        packed(b"\xdd" + (400_000).to_bytes(4) + b"\x80" * 400_000),
    ),
    "depth in msgpack": ("/runs/{run}/io", "GetActionData", packed(b"\x91" * 900 + b"\xc0")),
    "a table in msgpack": (
        *("/runs/{run}/io", "GetActionData"),
        packed(msgpack.packb([{"a": number, "b": "x"} for number in range(100_000)])),
    ),
}
"""What is read, the method whose answer is changed, and the change."""


def check(served: Served, ask: Callable[[httpx.Client], httpx.Response]) -> httpx.Response:
    """Ask as alice, and check what the app needs for it, and that it goes on."""
    written = served.log.stat().st_size
    with client_of(served.url, "alice") as alice, client_of(served.url, "bob") as bob:
        Path(f"/proc/{served.pid}/clear_refs").write_text("5")
        before = served.memory("VmRSS")
        answer = ask(alice)
        assert served.memory("VmHWM") - before < MEMORY
        assert bob.get("/me").json()["name"] == "Bob Brown"
    assert answer.status_code < 500, answer.text[:1000]
    assert len(answer.content) < ANSWER
    logged = served.log.read_bytes()[written:].decode()
    assert len(logged) < 20_000
    for person in PEOPLE.values():
        assert person.token not in logged
        assert person.token not in answer.text
    return answer


@pytest.mark.parametrize("name", FILLED)
def test_what_people_store_is_answered(served: Served, name: str) -> None:
    path, method, change = FILLED[name]
    before = served.flyte.changed
    served.flyte.changes[method] = change
    try:
        answer = check(served, lambda alice: alice.get(path.replace("{run}", served.run)))
    finally:
        served.flyte.changes.clear()
    assert served.flyte.changed > before
    assert answer.status_code in {200, 413}


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


BODIES = {
    "a text": '"' + "x" * 1_000_000 + '"',
    "quotes": '"' + '\\"' * 500_000 + '"',
    "numbers": f"[{','.join(['0'] * 249_000)}]",
    "too many numbers": f"[{','.join(['0'] * 500_000)}]",
    "lists": f"[{','.join(['[0]'] * 120_000)}]",
    "keys": json.dumps(dict.fromkeys(map(str, range(70_000)), 0)),
    "deep lists": f"[{','.join([nested(30)] * 4_000)}]",
    "very deep": nested(100_000),
    "digits": "7" * 1_000_000,
    "no JSON": "[" * 1_000_000,
}


@pytest.mark.parametrize("name", BODIES)
def test_what_people_send_is_answered(served: Served, name: str) -> None:
    path, inputs = f"/tasks/{TASKS}.greet/runs", f'{{"inputs": {{"name": {BODIES[name]}}}}}'
    answer = check(served, lambda alice: alice.post(path, content=inputs, headers=JSON))
    assert answer.status_code in {201, 400, 413, 422}
    arguments = f'{{"name": "run_task", "arguments": {{"name": "a", "inputs": {BODIES[name]}}}}}'
    call = f'{{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {arguments}}}'
    for content in (call, call.replace(BODIES[name], BODIES[name][:50] + BODIES[name][-50:])):
        check(served, lambda alice: alice.post("/mcp", content=content, headers=JSON))  # noqa: B023

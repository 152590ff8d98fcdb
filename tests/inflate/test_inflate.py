"""What people can fill, filled: the app answers, goes on, and keeps little of it.

One run, one task and one project are read, with one of Flyte's answers changed to what somebody can
store there.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import pytest
from flyteidl2.core.interface_pb2 import VariableEntry
from flyteidl2.core.literals_pb2 import Literal
from flyteidl2.workflow.run_definition_pb2 import ActionAttempt

from local_flyte import PEOPLE, LocalFlyte
from local_flyte.data import DataProxyService
from local_flyte.runs import RunService
from local_flyte.tasks import ProjectService, TaskService
from local_flyte.testing import client_of, wait_until

from ..served import TASKS, App, serving_app

pytestmark = pytest.mark.weekly

PAGE_TASKS = Path(__file__).parents[1] / "browser"
MEMORY = 250_000_000  # bytes more than before, while a message of 2 MB is read and answered
ANSWER = 15_000_000  # bytes; a text of Flyte's may have control characters, six bytes each in JSON
TEXT = "\x01\u202e<b>" + "x" * 2_000_000

METHODS = (
    (DataProxyService, "get_action_data"),
    (ProjectService, "list_projects"),
    (RunService, "get_action_details"),
    (RunService, "list_runs"),
    (TaskService, "get_task_details"),
)

Change = Callable[[Any], object]


class Changing:
    """Changes what one method of the local Flyte's services answers.

    Attributes:
        method: The name of the method.
        change: What is done with its answers.
        changed: How many have been changed.
    """

    def __init__(self) -> None:
        self.method = ""
        self.change: Change = repr
        self.changed = 0

    def wrapped(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a method of a service."""

        async def answer(service: Any, request: Any, ctx: Any) -> Any:
            kept = await method(service, request, ctx)
            if method.__name__ != self.method:
                return kept
            message = type(kept).FromString(kept.SerializeToString())
            self.change(message)
            self.changed += 1
            return message

        return answer


class Served(NamedTuple):
    """The app, the Flyte behind it, and a run that waits for an answer."""

    app: App
    log: Path
    flyte: Changing
    run: str


@pytest.fixture(scope="module")
def served(default_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    log, changing = tmp_path_factory.mktemp("inflate") / "log", Changing()
    with pytest.MonkeyPatch.context() as patch:
        for service, name in METHODS:
            patch.setattr(service, name, changing.wrapped(getattr(service, name)))
        with (
            LocalFlyte() as flyte,
            serving_app(default_project, log, flyte, signs_in=False) as app,
            client_of(app.url, "alice") as alice,
        ):
            flyte.deploy(PAGE_TASKS, "page_tasks.py", "env")
            inputs = {"inputs": {"text": "all"}}
            run = alice.post(f"/tasks/{TASKS}.publish/runs", json=inputs).json()["name"]
            wait_until(lambda: alice.get(f"/runs/{run}/conditions").json())
            yield Served(app, log, changing, run)


def value(make: Callable[[], Any]) -> tuple[str, str, Change]:
    """Change the first input of the run to a literal, which is only made when it is needed."""
    change: Change = lambda message: message.inputs.literals[0].value.CopyFrom(Literal(**make()))  # noqa: E731
    return "/runs/{run}/io", "get_action_data", change


def packed(make: Callable[[], bytes]) -> tuple[str, str, Change]:
    return value(lambda: {"scalar": {"binary": {"value": make(), "tag": "msgpack"}}})


def actions(change: Change) -> tuple[str, str, Change]:
    return "/runs/{run}/actions", "get_action_details", lambda message: change(message.details)


def ask(message: Any) -> None:
    if message.details.HasField("condition"):
        message.details.condition.prompt = TEXT


def fail(details: Any) -> None:
    details.status.phase = 6
    details.error_info.message = TEXT


def describe(message: Any) -> None:
    message.details.spec.documentation.short_description = TEXT


def declare_many_fields(message: Any) -> None:
    kind = message.details.spec.task_template.interface.inputs.variables[0].value.type
    kind.simple = 9  # STRUCT
    fields = {f"field {number}": {"type": "integer"} for number in range(20_000)}
    kind.metadata.update({"type": "object", "properties": fields})


def declare_many_inputs(message: Any) -> None:
    inputs = message.details.spec.task_template.interface.inputs.variables
    kind = inputs[0].value
    inputs.extend([VariableEntry(key=f"input {number}", value=kind) for number in range(100_000)])


def label(message: Any) -> None:
    for run in message.runs:
        run.labels["a"] = TEXT


TASK = f"/tasks/{TASKS}.greet"
NONE: Any = {"scalar": {"none_type": {}}}
ONE = {"scalar": {"primitive": {"integer": 1}}}
FILLED: dict[str, tuple[str, str, Change]] = {
    "a project's description": (
        *("/projects", "list_projects"),
        lambda message: setattr(message.projects.projects[0], "description", TEXT),
    ),
    "a task's description": (TASK, "get_task_details", describe),
    "a task's schema": (TASK, "get_task_details", declare_many_fields),
    "a task's inputs": (TASK, "get_task_details", declare_many_inputs),
    "a run's labels": ("/runs", "list_runs", label),
    "a question": ("/runs/{run}/conditions", "get_action_details", ask),
    "an error": actions(fail),
    "events of the cluster": actions(
        lambda details: details.attempts.add().cluster_events.add(message=TEXT)
    ),
    "many attempts": actions(
        lambda details: details.attempts.extend([ActionAttempt(attempt=1)] * 20_000)
    ),
    "a text": value(lambda: {"scalar": {"primitive": {"string_value": TEXT}}}),
    "a map": value(lambda: {"map": {"literals": {f"key {n}": NONE for n in range(100_000)}}}),
    "numbers": value(lambda: {"collection": {"literals": [ONE] * 200_000}}),
    "lists": value(lambda: {"collection": {"literals": [{"collection": {}}] * 400_000}}),
    "empty maps in msgpack": packed(lambda: b"\xdd" + (400_000).to_bytes(4) + b"\x80" * 400_000),
    "depth in msgpack": packed(lambda: b"\x91" * 900 + b"\xc0"),
    "a table in msgpack": packed(lambda: msgpack.packb([{"a": 1, "b": "x"}] * 100_000)),
}
"""What is read, the method whose answers are changed, and the change."""


@pytest.mark.parametrize("name", FILLED)
def test_what_people_store_is_answered(served: Served, name: str) -> None:
    path, served.flyte.method, served.flyte.change = FILLED[name]
    changed, written = served.flyte.changed, served.log.stat().st_size
    with client_of(served.app.url, "alice") as alice, client_of(served.app.url, "bob") as bob:
        served.app.forget_the_peak()
        before = served.app.memory("VmRSS")
        answer = alice.get(path.replace("{run}", served.run))
        served.flyte.method = ""
        assert served.app.memory("VmHWM") - before < MEMORY
        assert bob.get("/me").json()["name"] == "Bob Brown"
    assert answer.status_code in {200, 413}, answer.text[:1000]
    assert served.flyte.changed > changed
    assert len(answer.content) < ANSWER
    logged = served.log.read_bytes()[written:].decode()
    assert len(logged) < 20_000
    assert not [p for p in PEOPLE.values() if p.token in logged or p.token in answer.text]

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from local_flyte import PEOPLE, LocalFlyte

from .on_the_wire import PROJECT, call, cli, parts
from .test_lives_of_runs import eventually

pytestmark = pytest.mark.slow

TERMINAL = {"ACTION_PHASE_SUCCEEDED", "ACTION_PHASE_FAILED", "ACTION_PHASE_ABORTED"}

TASKS = """
import asyncio
import flyte

env = flyte.TaskEnvironment(name="family", image="auto")

@flyte.trace
async def doubled(number: int) -> int:
    return 2 * number

@env.task
async def child(number: int) -> int:
    if number == 13:
        raise ValueError("13 is unlucky")
    return await doubled(number)

@env.task
async def parent(numbers: list[int]) -> int:
    return sum(await asyncio.gather(*map(child, numbers)))

@env.task
async def asks() -> bool:
    approval = await flyte.new_condition.aio("approval")
    return await approval.wait.aio()

@env.task
async def endless() -> int:
    print("waiting for ever", flush=True)
    await asyncio.sleep(100_000)
    return 0

@env.task
async def parent_of_endless() -> int:
    return await endless()
"""


@pytest.fixture(scope="module")
def family(local_flyte: LocalFlyte, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tasks that start other tasks, deployed."""
    root = tmp_path_factory.mktemp("family")
    (root / "family.py").write_text(TASKS)
    local_flyte.deploy(root, "family.py", "env")


def integer(value: int) -> dict[str, Any]:
    """Return a task's input or output as it is on the wire."""
    return {"scalar": {"primitive": {"integer": str(value)}}}


class Runs:
    """Starts runs and follows them, on the wire."""

    def __init__(self, local_flyte: LocalFlyte) -> None:
        self._flyte = local_flyte

    def start(self, task: str, person: str = "alice", **inputs: dict[str, Any]) -> str:
        """Return the name of the run."""
        is_it = {"function": "EQUAL", "field": "name", "values": [f"family.{task}"]}
        tasks = call(
            self._flyte,
            "task.TaskService/ListTasks",
            {"projectId": PROJECT, "request": {"filters": [is_it]}},
            person=person,
        ).json()["tasks"]
        answer = call(
            self._flyte,
            "workflow.RunService/CreateRun",
            {
                "projectId": PROJECT,
                "taskId": tasks[0]["taskId"],
                "inputs": {"literals": [{"name": n, "value": v} for n, v in inputs.items()]},
            },
            person=person,
        )
        assert answer.status_code == 200, answer.text
        name = answer.json()["run"]["action"]["id"]["run"]["name"]
        assert isinstance(name, str)
        return name

    def actions(self, run: str) -> dict[str, dict[str, Any]]:
        """Return a run's actions, in every detail, by the name of the task, trace or condition."""
        answer = call(
            self._flyte, "workflow.RunService/ListActions", {"runId": self.id(run)}, person="bob"
        ).json()
        all_ = [self.details(each["id"]) for each in answer["actions"]]
        return {each["metadata"]["funtionName"]: each for each in all_}

    def details(self, id_: dict[str, Any]) -> dict[str, Any]:
        """Return an action in every detail."""
        method = "workflow.RunService/GetActionDetails"
        answer = call(self._flyte, method, {"actionId": id_}, person="bob").json()
        details: dict[str, Any] = answer["details"]
        return details

    def wait(self, run: str, done: Callable[[dict[str, dict[str, Any]]], bool]) -> None:
        """Wait until the actions are as expected."""
        deadline = time.monotonic() + 300
        while not done(self.actions(run)):
            assert time.monotonic() < deadline, self.actions(run)
            time.sleep(0.05)

    def root(self, run: str) -> dict[str, Any]:
        """Return the run's first action, in every detail, when it is over."""
        self.wait(
            run,
            lambda all_: all(
                each["status"]["phase"] in TERMINAL
                for each in all_.values()
                if each["id"]["name"] == "a0"
            ),
        )
        details = call(
            self._flyte, "workflow.RunService/GetRunDetails", {"runId": self.id(run)}, person="bob"
        )
        action = details.json()["details"]["action"]
        assert isinstance(action, dict)
        return action

    @staticmethod
    def id(run: str) -> dict[str, str]:
        """Identify a run on the wire."""
        return {"project": "flytesnacks", "domain": "development", "name": run}


@pytest.fixture
def runs(family: None, local_flyte: LocalFlyte) -> Runs:
    return Runs(local_flyte)


def test_a_task_awaits_others_and_their_traces(runs: Runs, local_flyte: LocalFlyte) -> None:
    run = runs.start("parent", numbers={"collection": {"literals": [integer(1), integer(2)]}})
    action = runs.root(run)
    assert action["status"]["phase"] == "ACTION_PHASE_SUCCEEDED"
    assert action["metadata"]["executedBy"]["user"]["spec"]["email"] == "alice@example.com"
    assert [each["phase"] for each in action["attempts"][0]["phaseTransitions"]] == [
        "ACTION_PHASE_QUEUED",
        "ACTION_PHASE_INITIALIZING",
        "ACTION_PHASE_RUNNING",
        "ACTION_PHASE_SUCCEEDED",
    ]
    assert runs.actions(run)["family.child"]["metadata"]["parent"] == "a0"
    assert runs.actions(run)["doubled"]["metadata"]["parent"] != "a0"
    child = runs.actions(run)["family.child"]
    assert "executedBy" not in child["metadata"]
    assert "org" not in child["id"]["run"]
    get_data = "dataproxy.DataProxyService/GetActionData"
    data = call(local_flyte, get_data, {"actionId": action["id"]}, person="alice").json()
    assert data["outputs"]["literals"][0]["value"] == integer(6)
    assert data["outputsUri"].endswith("/outputs.pb")


def test_an_error_names_its_cause(runs: Runs) -> None:
    action = runs.root(runs.start("child", number=integer(13)))
    assert action["status"]["phase"] == "ACTION_PHASE_FAILED"
    assert action["errorInfo"]["kind"] == "KIND_USER"
    assert "13 is unlucky" in action["errorInfo"]["message"]


def test_a_contributor_may_abort_anyones_run_with_all_its_actions(
    runs: Runs, local_flyte: LocalFlyte
) -> None:
    run = runs.start("parent_of_endless", person="bob")
    runs.wait(
        run,
        lambda all_: (
            all_.get("family.endless", {}).get("status", {}).get("phase") == "ACTION_PHASE_RUNNING"
        ),
    )
    refusal = call(
        local_flyte, "workflow.RunService/AbortRun", {"runId": runs.id(run)}, person="victor"
    )
    assert refusal.status_code == 403
    logs: list[bytes] = []
    child = {"actionId": runs.actions(run)["family.endless"]["id"], "attempt": 1}
    tail = "dataproxy.DataProxyService/TailLogs"
    reader = threading.Thread(
        target=lambda: logs.extend(parts(local_flyte, tail, child, person="alice"))
    )
    reader.start()
    eventually(lambda: b"waiting for ever" in b"".join(logs))
    cli(local_flyte, "abort", "run", run, person="alice")
    runs.wait(
        run,
        lambda all_: (
            {each["status"]["phase"] for each in all_.values()} == {"ACTION_PHASE_ABORTED"}
        ),
    )
    assert runs.root(run)["abortInfo"].keys() == {"reason"}  # nobody's name
    reader.join(60)  # the log ends with the action
    assert not reader.is_alive()


def test_a_task_gets_an_answer_before_the_record_has_it(
    runs: Runs, local_flyte: LocalFlyte
) -> None:
    run = runs.start("asks")
    runs.wait(run, lambda all_: "approval" in all_)
    id_ = runs.actions(run)["approval"]["id"]
    signal = {"actionId": id_, "parentActionName": "a0", "payload": {"boolValue": True}}
    with local_flyte.unrecorded_answers():
        answer = call(local_flyte, "workflow.RunService/SignalEvent", signal, person="bob")
        assert answer.status_code == 200
        assert runs.root(run)["status"]["phase"] == "ACTION_PHASE_SUCCEEDED"
        before = runs.details(id_)
        assert before["status"]["phase"] == "ACTION_PHASE_PAUSED"
        assert "signalInfo" not in before
        other = {**signal, "payload": {"boolValue": False}}
        refusal = call(local_flyte, "workflow.RunService/SignalEvent", other, person="alice")
        assert "already signalled with a different value" in refusal.json()["message"]
    after = runs.details(id_)
    assert after["status"]["phase"] == "ACTION_PHASE_SUCCEEDED"
    assert after["signalInfo"]["signalledBy"]["user"] == {"id": {"subject": PEOPLE["bob"].subject}}


def test_the_cli_runs_and_sees_what_is_there(runs: Runs, local_flyte: LocalFlyte) -> None:
    assert "family.child" in cli(local_flyte, "get", "task")
    started = cli(local_flyte, "run", "deployed-task", "family.child", "--number", "4")
    run = started.partition("Created Run: ")[2].split()[0]
    assert run in cli(local_flyte, "get", "run", "--limit", "1000")
    assert runs.root(run)["status"]["phase"] == "ACTION_PHASE_SUCCEEDED"
    assert "runtime completed" in cli(local_flyte, "get", "logs", run)

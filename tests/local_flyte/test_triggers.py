"""Triggers: deployed with a task or alone, listed, switched off and on, and run by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from local_flyte import LocalFlyte

from .on_the_wire import PROJECT, call, cli

pytestmark = pytest.mark.slow

TASKS = """
import flyte

env = flyte.TaskEnvironment(name="clocks")


daily = flyte.Trigger.daily(inputs={"hour": 7})
hourly = flyte.Trigger.hourly(inputs={"hour": 1})


@env.task(triggers=[daily, hourly])
async def ring(hour: int) -> str:
    return f"it is {hour}"
"""
SCOPE = {"project": PROJECT["name"], "domain": PROJECT["domain"]}


@pytest.fixture(scope="module", autouse=True)
def _deployed(local_flyte: LocalFlyte, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("clocks")
    (folder / "clocks.py").write_text(TASKS)
    local_flyte.deploy(folder, "clocks.py", "env")


def named(name: str) -> dict[str, str]:
    return {**SCOPE, "taskName": "clocks.ring", "name": name}


def triggers(flyte: LocalFlyte, **scope: object) -> list[tuple[str, bool]]:
    found = call(flyte, "trigger.TriggerService/ListTriggers", scope, person="victor").json()
    return [(each["id"]["name"]["name"], "active" in each) for each in found.get("triggers", ())]


def update(flyte: LocalFlyte, name: str, *, active: bool, person: str = "bob") -> int:
    body = {"names": [named(name)], "active": active}
    return call(flyte, "trigger.TriggerService/UpdateTriggers", body, person=person).status_code


def details(flyte: LocalFlyte, name: str) -> dict[str, Any]:
    body = {"name": named(name)}
    answer = call(flyte, "trigger.TriggerService/GetTriggerDetails", body, person="victor")
    trigger: dict[str, Any] = answer.json().get("trigger", {"status": answer.status_code})
    return trigger


def test_triggers_of_a_deployed_task_are_listed_active_ones_first(
    local_flyte: LocalFlyte, tmp_path: Path
) -> None:
    project = {"projectId": PROJECT}
    task = {"taskName": {**SCOPE, "name": "clocks.ring"}}
    assert {*triggers(local_flyte, **project)} == {("daily", True), ("hourly", True)}
    assert update(local_flyte, "daily", active=False) == 200
    for scope in (project, task):
        assert triggers(local_flyte, **scope) == [("hourly", True), ("daily", False)]
    for scope in (
        {"taskName": {**SCOPE, "name": "clocks.none"}},
        {"projectId": {"name": "x", "domain": "y"}},
    ):
        assert triggers(local_flyte, **scope) == []
    version = details(local_flyte, "daily")["spec"]["taskVersion"]
    for wanted, count in ((version, 2), ("another", 0)):
        id_ = {**SCOPE, "name": "clocks.ring", "version": wanted}
        assert len(triggers(local_flyte, taskId=id_)) == count


def test_a_trigger_has_who_deployed_it_and_a_revision_for_each_change(
    local_flyte: LocalFlyte,
) -> None:
    before = details(local_flyte, "hourly")
    assert before["metadata"]["deployedBy"]["user"]["id"]["subject"] == "alice-subject"
    assert before["automationSpec"]["schedule"]["cron"]["expression"] == "0 * * * *"
    for active in (False, False, True):
        assert update(local_flyte, "hourly", active=active) == 200
    after = details(local_flyte, "hourly")
    assert int(after["id"]["revision"]) == int(before["id"]["revision"]) + 2
    assert after["spec"]["active"] is True


def test_a_viewer_cannot_change_triggers(local_flyte: LocalFlyte) -> None:
    assert update(local_flyte, "hourly", active=False, person="victor") == 403
    assert details(local_flyte, "hourly")["spec"]["active"] is True


def test_an_unknown_trigger_can_be_updated_but_not_fetched(local_flyte: LocalFlyte) -> None:
    assert update(local_flyte, "none", active=True) == 200
    assert details(local_flyte, "none") == {"status": 404}


def test_a_trigger_can_be_run_by_hand_and_the_run_refers_to_it(local_flyte: LocalFlyte) -> None:
    body = {"projectId": PROJECT, "triggerName": named("daily")}
    body["inputs"] = details(local_flyte, "daily")["spec"].get("inputs", {})
    answer = call(local_flyte, "workflow.RunService/CreateRun", body, person="bob")
    assert answer.status_code == 200, answer.text
    run = answer.json()["run"]["action"]
    assert run["metadata"]["triggerId"]["name"]["name"] == "daily"
    assert run["metadata"]["executedBy"]["user"]["id"]["subject"] == "bob-subject"
    body["triggerName"] = named("none")
    assert call(local_flyte, "workflow.RunService/CreateRun", body, person="bob").status_code == 404


def test_the_flyte_command_lists_switches_and_deletes_triggers(local_flyte: LocalFlyte) -> None:
    assert "daily" in cli(local_flyte, "get", "trigger")
    cli(local_flyte, "update", "trigger", "--deactivate", "hourly", "clocks.ring")
    assert "active" not in details(local_flyte, "hourly")["spec"]
    cli(local_flyte, "delete", "trigger", "hourly", "clocks.ring")
    assert details(local_flyte, "hourly") == {"status": 404}
    assert json.dumps(triggers(local_flyte, projectId=PROJECT)).count("daily") == 1

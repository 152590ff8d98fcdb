"""What runs wait for: what the conformance cases do not check."""

import os

import pytest

from local_flyte import LocalFlyte
from local_flyte.testing import wait_until

from .on_the_wire import PROJECT, call

CREATE = "workflow.RunService/CreateRun"
DETAILS = "workflow.RunService/GetRunDetails"


def run_id(name: str) -> dict[str, str]:
    return {"project": PROJECT["name"], "domain": PROJECT["domain"], "name": name}


def start(flyte: LocalFlyte, name: str, script: str) -> None:
    """Start a run with this name, whose task is a shell script."""
    container = {"command": ["sh", "-c", script, "{{.outputPrefix}}"]}
    spec = {"taskTemplate": {"interface": {}, "container": container}}
    request = {"runId": run_id(name), "taskSpec": spec, "inputs": {}}
    answer = call(flyte, CREATE, request, person="alice")
    assert answer.status_code == 200, answer.text


def phase_of(flyte: LocalFlyte, name: str) -> str:
    answer = call(flyte, DETAILS, {"runId": run_id(name)}, person="bob").json()
    return str(answer["details"]["action"]["status"]["phase"].removeprefix("ACTION_PHASE_"))


def until(flyte: LocalFlyte, name: str, phase: str) -> None:
    """Wait until the run's action is in a phase."""
    wait_until(lambda: phase_of(flyte, name) == phase)


def test_runs_that_wait_for_answers_do_not_keep_others_from_starting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # so two runs are executed at a time
    with LocalFlyte() as flyte:
        for name in ("first", "second"):
            start(flyte, name, "exec sleep 100000")
            until(flyte, name, "RUNNING")
        # The SDK, too, does this before a task ends successfully.
        start(flyte, "third", 'mkdir -p "$0" && : > "$0/outputs.pb"')
        assert phase_of(flyte, "third") == "QUEUED"
        action = {
            "actionId": {"run": run_id("second"), "name": "asked"},
            "parentActionName": "a0",
            "inputUri": "none",
            "runOutputBase": "none",
            "condition": {"name": "approval", "type": {"simple": "BOOLEAN"}, "prompt": "Go on?"},
        }
        enqueue = "actions.ActionsService/Enqueue"
        answer = call(flyte, enqueue, {"action": action}, person="alice")
        assert answer.status_code == 200, answer.text
        until(flyte, "third", "SUCCEEDED")

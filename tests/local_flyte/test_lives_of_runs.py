"""How many runs are executed at a time."""

import os

import pytest

from local_flyte import LocalFlyte

from ..conformance.client import Flyte, Person, phase_of
from .test_access import call

SLEEPS = {"task_template": {"container": {"command": ["sleep", "600"]}}}


def test_runs_that_wait_keep_no_others_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # so two runs are executed at a time
    with LocalFlyte() as local:
        flyte = Flyte(local.config_file(), "union", {})
        alice = Person(flyte, local.token("alice"))
        as_alice = {"Authorization": f"Bearer {local.token('alice')}"}
        runs = [alice.create(project_id=flyte.scope, task_spec=SLEEPS) for _ in range(5)]
        for asks in runs[:2]:
            alice.until("RUNNING", asks)
            action = {"run": {**flyte.place, "name": asks.name}, "name": "asked"}
            asked = {"actionId": action, "parentActionName": "a0", "condition": {"name": "sure"}}
            call(local, "actions.ActionsService/Enqueue", {"action": asked}, as_alice)
        for other in runs[2:4]:
            alice.until("RUNNING", other)
        assert phase_of(alice.action(runs[4])) == "QUEUED"

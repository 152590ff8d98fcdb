"""Tests of GET /conditions, GET /runs/{name}/conditions and answers to conditions."""

from typing import Any

import httpx
import pytest
from flyte import remote

from local_flyte.testing import acting_as, ended, start, wait_until

from .deployed_tasks import ask

Condition = dict[str, Any]


@pytest.fixture
def condition(alice: httpx.Client) -> Condition:
    """Start a run of bob, and return the condition, with the path for answers."""
    path = f"/runs/{start(ask.name, 'bob', prompt='<b>Publish?</b>')}/conditions"
    wait_until(lambda: alice.get(path).json())
    (condition,) = alice.get(path).json()
    return dict(condition) | {"path": f"{path}/{condition['action']}"}


def test_answer_is_recorded_with_user(
    alice: httpx.Client, bob: httpx.Client, condition: Condition
) -> None:
    (listed,) = (one for one in alice.get("/conditions").json() if one["run"] == condition["run"])
    assert (listed["name"], listed["prompt"]) == ("approval", "<b>Publish?</b>")
    assert (listed["type"], listed["phase"]) == ("boolean", "paused")
    assert (listed["value"], listed["answered_by"], listed["answered_at"]) == (None, None, None)

    response = alice.post(condition["path"], json={"value": True})
    assert response.status_code == 200
    answered = response.json()
    assert (answered["value"], answered["phase"]) == (True, "succeeded")
    assert condition["run"] not in [one["run"] for one in alice.get("/conditions").json()]
    with acting_as("alice"):
        assert answered["answered_by"]["subject"] == remote.User.get().subject()
        assert remote.Run.get(ended(condition["run"])).outputs().named_outputs == {"o0": True}
    assert bob.get(f"/runs/{condition['run']}/conditions").json() == [answered]

    assert alice.post(condition["path"], json={"value": True}).json() == answered
    refused = alice.post(condition["path"], json={"value": False})
    assert refused.status_code == 409
    assert "answered otherwise" in refused.json()["detail"]


def test_invalid_or_late_answer_is_refused(alice: httpx.Client, condition: Condition) -> None:
    for value in (1, 1.5, "true", None, [True]):
        assert alice.post(condition["path"], json={"value": value}).status_code == 422, value
    root = f"/runs/{condition['run']}/conditions/a0"
    assert alice.post(root, json={"value": True}).status_code == 404
    with acting_as("alice"):
        remote.Run.get(condition["run"]).abort()
    refused = alice.post(condition["path"], json={"value": True})
    assert refused.status_code == 409
    assert "its run has ended" in refused.json()["detail"]


@pytest.mark.authorization
def test_viewer_can_read_but_not_answer_condition(
    alice: httpx.Client, victor: httpx.Client, condition: Condition
) -> None:
    assert condition["run"] in [one["run"] for one in victor.get("/conditions").json()]
    assert victor.post(condition["path"], json={"value": True}).status_code == 403
    assert alice.post(condition["path"], json={"value": False}).json()["value"] is False

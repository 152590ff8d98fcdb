"""GET /conditions, and /runs/{name}/conditions with the answers."""

from typing import Any

import httpx
import pytest
from flyte import remote

from local_flyte.testing import acting_as, ended, start, wait_until

from .deployed_tasks import ask

Asked = dict[str, Any]


@pytest.fixture
def asked(alice: httpx.Client) -> Asked:
    """What a new run of bob's asks."""
    path = f"/runs/{start(ask.name, 'bob', prompt='<b>Publish?</b>')}/conditions"
    wait_until(lambda: alice.get(path).json())
    (condition,) = alice.get(path).json()
    return dict(condition) | {"path": f"{path}/{condition['action']}"}


def test_answer_is_recorded_with_user(alice: httpx.Client, bob: httpx.Client, asked: Asked) -> None:
    (waiting,) = (each for each in alice.get("/conditions").json() if each["run"] == asked["run"])
    assert (waiting["name"], waiting["prompt"]) == ("approval", "<b>Publish?</b>")
    assert (waiting["type"], waiting["phase"]) == ("boolean", "paused")
    assert (waiting["value"], waiting["answered_by"], waiting["answered_at"]) == (None, None, None)

    answer = alice.post(asked["path"], json={"value": True})
    assert answer.status_code == 200
    answered = answer.json()
    assert (answered["value"], answered["phase"]) == (True, "succeeded")
    assert asked["run"] not in [each["run"] for each in alice.get("/conditions").json()]
    with acting_as("alice"):
        assert answered["answered_by"]["subject"] == remote.User.get().subject()
        assert remote.Run.get(ended(asked["run"])).outputs().named_outputs == {"o0": True}
    assert bob.get(f"/runs/{asked['run']}/conditions").json() == [answered]

    assert alice.post(asked["path"], json={"value": True}).json() == answered
    refused = alice.post(asked["path"], json={"value": False})
    assert refused.status_code == 409
    assert "answered otherwise" in refused.json()["detail"]


def test_invalid_or_late_answer_is_refused(alice: httpx.Client, asked: Asked) -> None:
    for value in (1, 1.5, "true", None, [True]):
        assert alice.post(asked["path"], json={"value": value}).status_code == 422, value
    root = f"/runs/{asked['run']}/conditions/a0"
    assert alice.post(root, json={"value": True}).status_code == 404
    with acting_as("alice"):
        remote.Run.get(asked["run"]).abort()
    refused = alice.post(asked["path"], json={"value": True})
    assert refused.status_code == 409
    assert "its run has ended" in refused.json()["detail"]


@pytest.mark.authorization
def test_viewer_can_read_but_not_answer_condition(
    alice: httpx.Client, victor: httpx.Client, asked: Asked
) -> None:
    assert asked["run"] in [each["run"] for each in victor.get("/conditions").json()]
    assert victor.post(asked["path"], json={"value": True}).status_code == 403
    assert alice.post(asked["path"], json={"value": False}).json()["value"] is False

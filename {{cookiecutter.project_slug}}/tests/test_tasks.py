"""Tests of GET /tasks, GET /tasks/{name} and POST /tasks/{name}/runs."""

from typing import Any

import httpx
import pytest
from flyte import remote

from local_flyte import Code, LocalFlyte
from local_flyte.testing import acting_as

from .deployed_tasks import count, env, greet

GREET = f"/tasks/{greet.name}"


def test_list_tasks_returns_latest_version(alice: httpx.Client) -> None:
    tasks = alice.get("/tasks", params={"environment": env.name}).json()
    names = [task["name"] for task in tasks]
    assert {greet.name, count.name} <= {*names}
    assert len(names) == len({*names})
    assert all(name.startswith(f"{env.name}.") for name in names)
    assert all(task["version"] for task in tasks)
    assert len(alice.get("/tasks", params={"limit": 1}).json()) == 1


def test_task_details_have_input_schema(alice: httpx.Client) -> None:
    task = alice.get(GREET).json()
    assert task["name"] == greet.name
    assert task["description"] == "Greet a person by name."
    assert task["inputs"]["required"] == ["name"]
    assert task["inputs"]["properties"] == {
        "name": {"type": "string"},
        "excited": {"type": "boolean", "default": False},
    }


@pytest.mark.parametrize("path", ["/tasks/team/app.greet", "/tasks/team%2Fapp.greet"])
def test_task_name_can_contain_slash(alice: httpx.Client, path: str) -> None:
    for response in (alice.get(path), alice.post(f"{path}/runs", json={})):
        assert response.status_code == 404
        assert "team/app.greet" in response.json()["detail"]


def test_task_version_can_be_requested(alice: httpx.Client) -> None:
    latest = alice.get(GREET).json()
    assert alice.get(GREET, params={"version": latest["version"]}).json() == latest
    assert alice.get(GREET, params={"version": "none"}).status_code == 404
    assert alice.post(f"{GREET}/runs?version=none", json={}).status_code == 404


def test_start_run_with_wait_returns_outputs(bob: httpx.Client) -> None:
    """The run belongs to the caller."""
    body = {"inputs": {"name": "Grace", "excited": True}}
    response = bob.post(f"{GREET}/runs", params={"wait": 100}, json=body)
    assert response.status_code == 201
    run = response.json()
    assert (run["task"], run["phase"]) == (greet.name, "succeeded")
    assert run["outputs"] == {"o0": "Hello, Grace!"}
    with acting_as("bob"):
        assert run["executed_by"]["subject"] == remote.User.get().subject()
    query = f"project={run['project']}&domain={run['domain']}"
    assert response.headers["Location"] == f"/runs/{run['name']}?{query}"


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        ({}, ["name"]),
        ({"name": 7, "excited": "perhaps"}, ["excited", "name"]),
        ({"name": "Ada", "loud": True}, ["loud"]),
    ],
)
def test_invalid_inputs_are_all_reported(
    alice: httpx.Client, inputs: dict[str, Any], names: list[str]
) -> None:
    response = alice.post(f"{GREET}/runs", json={"inputs": inputs})
    assert response.status_code == 422
    locations = sorted(error["location"] for error in response.json()["errors"])
    assert locations == [["inputs", name] for name in names]


def test_start_run_with_unknown_field_is_422(alice: httpx.Client) -> None:
    response = alice.post(f"{GREET}/runs", json={"input": {"name": "Ada"}})
    assert response.status_code == 422
    assert response.json()["errors"][0]["location"] == ["body", "input"]


@pytest.mark.steers_flyte
def test_started_run_is_returned_if_reading_fails(
    alice: httpx.Client, local_flyte: LocalFlyte
) -> None:
    local_flyte.fail_next("WatchActions", Code.UNKNOWN)
    response = alice.post(f"{GREET}/runs?wait=20", json={"inputs": {"name": "Ada"}})
    assert response.status_code == 201
    assert response.json()["outputs"] is None
    assert f"/runs/{response.json()['name']}?" in response.headers["Location"]

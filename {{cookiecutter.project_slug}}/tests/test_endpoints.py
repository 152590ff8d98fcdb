"""What the endpoints answer, with real runs behind them."""

from typing import Any

import httpx
import pytest

from .support import TASKS, finished, run_task

GREET = f"/tasks/{TASKS}.greet"


def test_health_and_readiness_need_no_credentials(anonymous: httpx.Client) -> None:
    assert anonymous.get("/health").json() == {"status": "ok"}
    assert anonymous.get("/ready").json() == {"status": "ok"}


@pytest.mark.local_flyte
def test_me(alice: httpx.Client) -> None:
    assert alice.get("/me").json() == {
        "subject": "alice-subject",
        "name": "Alice Adams",
        "email": "alice@example.com",
    }


def test_projects_name_their_domains(alice: httpx.Client) -> None:
    projects = alice.get("/projects").json()
    assert projects
    assert all(project["id"] and project["domains"] for project in projects)


def test_tasks_are_listed(alice: httpx.Client) -> None:
    tasks = {task["name"]: task["version"] for task in alice.get("/tasks").json()}
    assert {f"{TASKS}.greet", f"{TASKS}.count"} <= tasks.keys()
    assert all(tasks.values())


def test_a_task_shows_what_it_takes(alice: httpx.Client) -> None:
    task = alice.get(GREET).json()
    assert task["name"] == f"{TASKS}.greet"
    assert task["inputs"] == {
        "type": "object",
        "properties": {"name": {"type": "string"}, "excited": {"type": "boolean"}},
        "required": ["name"],
    }


def test_a_run_goes_from_inputs_to_outputs(alice: httpx.Client) -> None:
    response = alice.post(f"{GREET}/runs", json={"inputs": {"name": "Grace", "excited": True}})
    assert response.status_code == 201
    run = finished(alice, response.json())
    assert (run["phase"], run["error"]) == ("succeeded", None)
    assert run["started_at"] <= run["ended_at"]
    assert alice.get(response.headers["Location"]).json() == run

    data = alice.get(f"/runs/{run['name']}/io").json()
    assert data == {
        "inputs": {"name": "Grace", "excited": True},
        "outputs": {"o0": "Hello, Grace!"},
    }
    assert "greeting Grace\n" in alice.get(f"/runs/{run['name']}/logs").text


def test_a_failed_run_says_why_and_has_no_outputs(alice: httpx.Client) -> None:
    run = finished(alice, run_task(alice, "count", to=0))
    assert run["phase"] == "failed"
    assert "cannot count to 0" in run["error"]
    assert alice.get(f"/runs/{run['name']}/io").json() == {"inputs": {"to": 0}, "outputs": None}


@pytest.mark.parametrize(
    ("inputs", "location"),
    [
        ({}, ["body", "inputs", "name"]),
        ({"name": 7}, ["body", "inputs", "name"]),
        ({"name": "Ada", "excited": "perhaps"}, ["body", "inputs", "excited"]),
        ({"name": "Ada", "loud": True}, ["body", "inputs", "loud"]),
    ],
)
def test_inputs_that_the_task_cannot_take_are_named(
    alice: httpx.Client, inputs: dict[str, Any], location: list[str]
) -> None:
    response = alice.post(f"{GREET}/runs", json={"inputs": inputs})
    assert response.status_code == 422
    assert [error["location"] for error in response.json()["errors"]] == [location]


def test_a_name_is_used_for_one_run_only(alice: httpx.Client, greeting: dict[str, Any]) -> None:
    body = {"inputs": {"name": "Ada"}, "name": greeting["name"]}
    response = alice.post(f"{GREET}/runs", json=body)
    assert response.status_code == 409
    assert greeting["name"] in response.json()["detail"]


def test_runs_are_paged_newest_first(alice: httpx.Client) -> None:
    started = [run_task(alice, "greet", name=str(number))["name"] for number in range(3)]
    query: dict[str, str | int] = {"task": f"{TASKS}.greet", "limit": 2}
    first = alice.get("/runs", params=query).json()
    assert [run["name"] for run in first["runs"]] == started[:0:-1]
    assert first["next_offset"] == 2
    second = alice.get("/runs", params={**query, "offset": 2}).json()
    assert second["runs"][0]["name"] == started[0]


def test_runs_can_be_chosen_by_task_and_phase(alice: httpx.Client) -> None:
    failed = finished(alice, run_task(alice, "count", to=0))
    finished(alice, run_task(alice, "count", to=1))
    found = alice.get("/runs", params={"task": f"{TASKS}.count", "phase": "failed"}).json()["runs"]
    assert found[0] == failed | {"error": None}  # lists do not say why
    assert {(run["task"], run["phase"]) for run in found} == {(f"{TASKS}.count", "failed")}
    both = alice.get("/runs", params={"phase": ["failed", "succeeded"], "limit": 100}).json()
    assert {run["phase"] for run in both["runs"]} == {"failed", "succeeded"}


@pytest.mark.parametrize("path", [f"/tasks/{TASKS}.none", "/runs/none", "/runs/none/io", "/none"])
def test_what_does_not_exist_is_a_problem(alice: httpx.Client, path: str) -> None:
    response = alice.get(path)
    assert response.status_code == 404
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["title"] == "Not Found"


def test_project_and_domain_can_be_chosen_per_request(
    alice: httpx.Client, greeting: dict[str, Any]
) -> None:
    elsewhere = {"domain": "staging"}
    assert alice.get("/runs", params=elsewhere).json()["runs"] == []
    assert alice.get("/tasks", params=elsewhere).json() == []
    assert alice.get(f"/runs/{greeting['name']}", params=elsewhere).status_code == 404
    here = {"project": greeting["project"], "domain": greeting["domain"]}
    assert alice.get(f"/runs/{greeting['name']}", params=here).json() == greeting


def test_a_large_body_is_refused(alice: httpx.Client) -> None:
    response = alice.post(f"{GREET}/runs", json={"inputs": {"name": "x" * 2_000_000}})
    assert response.status_code == 413

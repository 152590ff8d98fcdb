"""GET /runs, and /runs/{name} with /io, /rerun and /abort."""

import time
from datetime import datetime
from typing import Any

import httpx
import pytest
from flyte.models import ActionPhase

from local_flyte import Code, LocalFlyte

from .support import TASKS, finished, long_run, needs, run_task


def get_run(client: httpx.Client, run: dict[str, Any], **query: Any) -> dict[str, Any]:
    """Return the app's representation of a run."""
    shown: dict[str, Any] = client.get(f"/runs/{run['name']}", params=query).json()
    return shown


@pytest.fixture(scope="module")
def failure(alice: httpx.Client, greeting: dict[str, Any]) -> dict[str, Any]:
    """A run that has failed, started after ``greeting``."""
    time.sleep(1)  # Flyte rounds the start time of a run to seconds
    return finished(alice, run_task(alice, "count", to=0))


def test_a_run_that_succeeded_shows_its_state_inputs_and_outputs(
    alice: httpx.Client, greeting: dict[str, Any]
) -> None:
    run = get_run(alice, greeting)
    assert run["task"] == f"{TASKS}.greet"
    assert run["version"]
    assert (run["phase"], run["error"], run["outputs"]) == ("succeeded", None, None)
    started, ended = (datetime.fromisoformat(run[each]) for each in ("started_at", "ended_at"))
    assert started <= ended
    assert run["url"].startswith("https://")
    place = f"/domain/{run['domain']}/project/{run['project']}/runs/{run['name']}"
    assert run["url"].endswith(place)
    assert get_run(alice, greeting, wait=60)["outputs"] == {"o0": "Hello, Ada."}
    data = alice.get(f"/runs/{run['name']}/io").json()
    assert data["inputs"]["name"] == "Ada"
    assert data["outputs"] == {"o0": "Hello, Ada."}


def test_a_failed_run_has_an_error_and_no_outputs(
    alice: httpx.Client, failure: dict[str, Any]
) -> None:
    run = get_run(alice, failure)
    assert run["phase"] == "failed"
    assert "cannot count to 0" in run["error"]
    assert alice.get(f"/runs/{run['name']}/io").json() == {"inputs": {"to": 0}, "outputs": None}


def test_a_wait_that_ends_before_the_run_returns_its_current_state(
    alice: httpx.Client, counting: dict[str, Any]
) -> None:
    shown = get_run(alice, counting, wait=0.1)
    assert (shown["ended_at"], shown["outputs"]) == (None, None)


@needs("/me")
def test_a_run_has_who_started_it_and_lists_can_be_filtered_by_person(
    alice: httpx.Client, greeting: dict[str, Any]
) -> None:
    me = alice.get("/me").json()
    executed_by = {"subject": me["subject"], "name": me["name"]}
    assert get_run(alice, greeting)["executed_by"] == executed_by
    for query in ({"subject": me["subject"]}, {"mine": "true"}):
        mine = alice.get("/runs", params={**query, "limit": 200}).json()
        assert greeting["name"] in [run["name"] for run in mine]
        assert {run["executed_by"]["subject"] for run in mine} == {me["subject"]}
    assert alice.get("/runs", params={"subject": "nobody"}).json() == []
    assert alice.get("/runs", params={"subject": "nobody", "mine": "true"}).status_code == 422
    assert alice.get("/runs", params={"subject": ""}).status_code == 422  # not everybody's


def test_runs_are_listed_newest_first_and_by_task_and_phase(
    alice: httpx.Client, greeting: dict[str, Any], failure: dict[str, Any]
) -> None:
    names = [run["name"] for run in alice.get("/runs", params={"limit": 200}).json()]
    assert names.index(failure["name"]) < names.index(greeting["name"])
    for phases in (["failed", "timed_out"], *([phase.value] for phase in ActionPhase)):
        query: dict[str, Any] = {"task": f"{TASKS}.count", "phase": phases, "limit": 200}
        found = alice.get("/runs", params=query).json()
        assert (failure["name"] in {run["name"] for run in found}) == ("failed" in phases)
        assert {run["task"] for run in found} <= {f"{TASKS}.count"}
        assert {run["phase"] for run in found} <= {*phases}


def test_before_lists_older_runs(
    alice: httpx.Client, greeting: dict[str, Any], failure: dict[str, Any]
) -> None:
    before = get_run(alice, failure)["started_at"]
    older = alice.get("/runs", params={"before": before, "limit": 200}).json()
    assert greeting["name"] in {run["name"] for run in older}
    assert failure["name"] not in {run["name"] for run in older}


def test_project_and_domain_can_be_chosen_per_request(
    alice: httpx.Client, greeting: dict[str, Any]
) -> None:
    elsewhere = {"domain": "staging"}
    listed = alice.get("/runs", params=elsewhere).json()
    assert all(run["domain"] == "staging" for run in listed)  # others may run there too
    assert alice.get(f"/runs/{greeting['name']}", params=elsewhere).status_code == 404
    here = {"project": greeting["project"], "domain": greeting["domain"]}
    assert get_run(alice, greeting, **here) == get_run(alice, greeting)


@pytest.mark.parametrize("path", ["", "/io", "/rerun", "/abort"])
def test_a_run_that_does_not_exist_is_a_problem(alice: httpx.Client, path: str) -> None:
    method = "POST" if path in {"/rerun", "/abort"} else "GET"
    response = alice.request(method, f"/runs/none{path}")
    assert response.status_code == 404
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["title"] == "Not Found"


def test_a_run_is_run_again_by_its_caller_with_some_inputs_changed(
    bob: httpx.Client, greeting: dict[str, Any]
) -> None:
    path = f"/runs/{greeting['name']}/rerun"
    response = bob.post(path, json={"inputs": {"excited": True}})
    assert response.status_code == 201
    again = response.json()
    assert response.headers["Location"].startswith(f"/runs/{again['name']}?")
    assert again["name"] != greeting["name"]
    shown = get_run(bob, again, wait=100)
    assert shown["outputs"] == {"o0": "Hello, Ada!"}
    assert shown["executed_by"] != get_run(bob, greeting)["executed_by"]

    refused = bob.post(path, json={"inputs": {"excited": "very"}})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["location"] == ["inputs", "excited"]


@pytest.mark.authorization
def test_a_contributor_may_abort_anyones_run_and_a_viewer_may_not(
    alice: httpx.Client, bob: httpx.Client, victor: httpx.Client
) -> None:
    with long_run(alice) as run:
        refused = victor.post(f"/runs/{run['name']}/abort")
        assert refused.status_code == 403
        assert "victor" in refused.json()["detail"]
        assert get_run(victor, run)["ended_at"] is None

        aborted = bob.post(f"/runs/{run['name']}/abort", json={"reason": "bob says so"})
        assert aborted.status_code == 202
        assert get_run(alice, run, wait=100)["phase"] == "aborted"


def test_aborting_a_run_that_has_ended_is_refused_and_changes_nothing(
    alice: httpx.Client, greeting: dict[str, Any]
) -> None:
    before = get_run(alice, greeting)
    refused = alice.post(f"/runs/{greeting['name']}/abort")
    assert refused.status_code == 409
    assert refused.json()["detail"] == f"the run '{greeting['name']}' has already ended"
    assert get_run(alice, greeting) == before


@pytest.mark.steers_flyte
def test_data_that_is_too_large_for_flyte_to_return_is_a_413(
    alice: httpx.Client, local_flyte: LocalFlyte, greeting: dict[str, Any]
) -> None:
    said = "limit exceeded. 3.1mb > 2mb."  # Flyte's message
    local_flyte.fail_next("GetActionData", Code.INTERNAL, message=said)
    refused = alice.get(f"/runs/{greeting['name']}/io")
    assert refused.status_code == 413
    assert "2 MiB" in refused.json()["detail"]

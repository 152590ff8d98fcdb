"""Tests of GET /runs, and of /runs/{name} with /io, /rerun, /abort, /actions and /report."""

import json
import time
from datetime import datetime
from typing import Any

import httpx
import pytest
from flyte import remote
from flyte.models import ActionPhase

from app.settings import Settings
from local_flyte.testing import acting_as, ended, events, long_run, start

from .deployed_tasks import count, draw, greet


def get_run(client: httpx.Client, name: str, **query: Any) -> dict[str, Any]:
    """Return the JSON of a run."""
    run: dict[str, Any] = client.get(f"/runs/{name}", params=query).json()
    return run


def list_runs(client: httpx.Client, **query: Any) -> list[dict[str, Any]]:
    """Return the first page of runs."""
    runs: list[dict[str, Any]] = client.get("/runs", params={"limit": 200, **query}).json()
    return runs


@pytest.fixture(scope="module")
def failure(greeting: str) -> str:
    """Return the name of a failed run, which started after ``greeting``."""
    time.sleep(1)  # Flyte rounds the start time of a run to seconds
    return ended(start(count.name, to=0))


def test_succeeded_run_has_inputs_and_outputs(alice: httpx.Client, greeting: str) -> None:
    run = get_run(alice, greeting)
    assert run["task"] == greet.name
    assert run["version"]
    assert (run["phase"], run["error"], run["outputs"]) == ("succeeded", None, None)
    started, end = (datetime.fromisoformat(run[name]) for name in ("started_at", "ended_at"))
    assert started <= end
    assert run["url"].startswith("https://")
    assert run["url"].endswith(f"/domain/{run['domain']}/project/{run['project']}/runs/{greeting}")
    assert get_run(alice, greeting, wait=60)["outputs"] == {"o0": "Hello, Ada."}
    data = alice.get(f"/runs/{greeting}/io").json()
    assert data["inputs"]["name"] == "Ada"
    assert data["outputs"] == {"o0": "Hello, Ada."}


def test_failed_run_has_error_and_no_outputs(alice: httpx.Client, failure: str) -> None:
    run = get_run(alice, failure)
    assert run["phase"] == "failed"
    assert "cannot count to 0" in run["error"]
    assert alice.get(f"/runs/{failure}/io").json() == {"inputs": {"to": 0}, "outputs": None}


def test_wait_timeout_returns_current_state(alice: httpx.Client, counting: str) -> None:
    run = get_run(alice, counting, wait=0.1)
    assert (run["ended_at"], run["outputs"]) == (None, None)


def test_list_runs_filters_by_user(alice: httpx.Client, greeting: str) -> None:
    with acting_as("alice"):
        me = remote.User.get()
    assert get_run(alice, greeting)["executed_by"] == {"subject": me.subject(), "name": me.name()}
    for query in ({"subject": me.subject()}, {"mine": "true"}):
        mine = list_runs(alice, **query)
        assert greeting in [run["name"] for run in mine]
        assert {run["executed_by"]["subject"] for run in mine} == {me.subject()}
    assert list_runs(alice, subject="unknown") == []
    assert alice.get("/runs", params={"subject": "unknown", "mine": "true"}).status_code == 422
    assert alice.get("/runs", params={"subject": ""}).status_code == 422  # not all users


def test_list_runs_sorts_and_filters(alice: httpx.Client, greeting: str, failure: str) -> None:
    """The list is sorted newest first, and filtered by task, phase and time."""
    names = [run["name"] for run in list_runs(alice)]
    assert names.index(failure) < names.index(greeting)
    for phases in (["failed", "timed_out"], *([phase.value] for phase in ActionPhase)):
        runs = list_runs(alice, task=count.name, phase=phases)
        assert (failure in {run["name"] for run in runs}) == ("failed" in phases)
        assert {run["task"] for run in runs} <= {count.name}
        assert {run["phase"] for run in runs} <= {*phases}
    start = get_run(alice, failure)["started_at"]
    older = {run["name"] for run in list_runs(alice, before=start)}
    assert greeting in older
    assert failure not in older
    newer = {run["name"] for run in list_runs(alice, after=start)}
    assert failure in newer
    assert greeting not in newer


def test_request_can_choose_project_and_domain(
    alice: httpx.Client, greeting: str, settings: Settings
) -> None:
    other = {"domain": "production" if settings.flyte_domain == "staging" else "staging"}
    assert all(run["domain"] == other["domain"] for run in list_runs(alice, **other))
    assert alice.get(f"/runs/{greeting}", params=other).status_code == 404
    none = alice.get(f"/runs/{greeting}", params={"project": "none"})
    assert none.status_code in {403, 404}
    default = {"project": settings.flyte_project, "domain": settings.flyte_domain}
    assert get_run(alice, greeting, **default) == get_run(alice, greeting)


@pytest.mark.parametrize("path", ["", "/io", "/rerun", "/abort"])
def test_missing_run_is_404(alice: httpx.Client, path: str) -> None:
    method = "POST" if path in {"/rerun", "/abort"} else "GET"
    response = alice.request(method, f"/runs/none{path}")
    assert (response.status_code, response.json()["title"]) == (404, "Not Found")
    assert response.headers["Content-Type"] == "application/problem+json"


def test_rerun_replaces_inputs_and_has_new_owner(bob: httpx.Client, greeting: str) -> None:
    path = f"/runs/{greeting}/rerun"
    response = bob.post(path, json={"inputs": {"excited": True}})
    assert response.status_code == 201
    again = response.json()["name"]
    assert response.headers["Location"].startswith(f"/runs/{again}?")
    assert again != greeting
    run = get_run(bob, again, wait=100)
    assert run["outputs"] == {"o0": "Hello, Ada!"}
    assert run["executed_by"] != get_run(bob, greeting)["executed_by"]

    refused = bob.post(path, json={"inputs": {"excited": "very"}})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["location"] == ["inputs", "excited"]


@pytest.mark.authorization
def test_abort_run_needs_right_to_run(
    alice: httpx.Client, bob: httpx.Client, victor: httpx.Client
) -> None:
    """A contributor may abort all runs; a viewer may not."""
    with long_run(count.name, to=100_000) as run:
        refused = victor.post(f"/runs/{run}/abort")
        assert refused.status_code == 403
        assert "victor" in refused.json()["detail"]
        assert get_run(victor, run)["ended_at"] is None

        aborted = bob.post(f"/runs/{run}/abort", json={"reason": "bob says so"})
        assert aborted.status_code == 202
        details = get_run(alice, run, wait=100)
        assert (details["phase"], details["abort_reason"]) == ("aborted", "bob says so")


def test_abort_ended_run_is_refused(alice: httpx.Client, greeting: str) -> None:
    before = get_run(alice, greeting)
    refused = alice.post(f"/runs/{greeting}/abort")
    assert refused.status_code == 409
    assert refused.json()["detail"] == f"the run '{greeting}' has already ended"
    assert get_run(alice, greeting) == before


def test_actions_of_ended_run_contain_root_action(alice: httpx.Client, greeting: str) -> None:
    path = f"/runs/{greeting}/actions"
    (root,) = alice.get(path).json()
    assert (root["name"], root["type"], root["task"]) == ("a0", "task", greet.name)
    assert (root["parent"], root["phase"], root["error"]) == (None, "succeeded", None)
    started, end = (datetime.fromisoformat(root[name]) for name in ("started_at", "ended_at"))
    assert started <= end
    assert alice.get(path, params={"offset": 1}).json() == []
    (event,) = events(alice.get(f"{path}/events"))
    assert (event.type, json.loads(event.data)) == ("action", root)
    assert alice.get("/runs/none/actions").status_code == 404


@pytest.mark.authorization
def test_abort_action_needs_right_to_run(bob: httpx.Client, victor: httpx.Client) -> None:
    """A contributor may abort all actions; a viewer may not."""
    with long_run(count.name, to=100_000) as run:
        path = f"/runs/{run}/actions/a0/abort"
        assert victor.post(path).status_code == 403
        aborted = bob.post(path, json={"reason": "bob says so"})
        assert (aborted.status_code, aborted.json()["name"]) == (202, "a0")
        assert bob.post(path).status_code == 409
        assert bob.post(path.replace("a0", "none")).status_code == 404


def test_report_redirects_to_signed_url(alice: httpx.Client, greeting: str) -> None:
    drawn = ended(start(draw.name))
    response = alice.get(f"/runs/{drawn}/report")
    assert (response.status_code, response.headers["Referrer-Policy"]) == (303, "no-referrer")
    assert "<p>drawn</p>" in httpx.get(response.headers["Location"], trust_env=False).text
    actions = [alice.get(f"/runs/{name}/actions").json()[0] for name in (drawn, greeting)]
    assert [action["has_report"] for action in actions] == [True, False]
    assert alice.get(f"/runs/{greeting}/report").status_code == 404

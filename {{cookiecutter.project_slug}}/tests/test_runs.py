"""GET /runs, GET /runs/{name}, GET /runs/{name}/io and POST /runs/{name}/abort."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

import httpx
import pytest
from connectrpc.code import Code
from flyte import remote
from flyte.models import ActionPhase
from flyteidl2.common.phase_pb2 import (
    ACTION_PHASE_ABORTED,
    ACTION_PHASE_RUNNING,
    ACTION_PHASE_SUCCEEDED,
)
from flyteidl2.workflow.run_definition_pb2 import Run
from flyteidl2.workflow.run_service_pb2 import ListRunsRequest, ListRunsResponse
from google.protobuf.timestamp_pb2 import Timestamp

from app.dependencies import ProjectDomain
from app.flyte_client import Flyte
from app.routers.runs import _time, list_runs
from local_flyte import LocalFlyte

from .support import TASKS, calling_as, finished, long_run, needs, run_task, wait_until


def get_run(client: httpx.Client, run: dict[str, Any]) -> dict[str, Any]:
    """Return a run as the app shows it."""
    shown: dict[str, Any] = client.get(f"/runs/{run['name']}").json()
    return shown


def test_a_run_that_succeeded_shows_its_state_inputs_and_outputs(
    alice: httpx.Client, greeting: dict[str, Any]
) -> None:
    run = get_run(alice, greeting)
    assert run["task"] == f"{TASKS}.greet"
    assert (run["phase"], run["error"]) == ("succeeded", None)
    assert run["started_at"] <= run["ended_at"]
    data = alice.get(f"/runs/{run['name']}/io").json()
    assert data["inputs"]["name"] == "Ada"
    assert data["outputs"] == {"o0": "Hello, Ada."}


def test_a_run_that_failed_says_why_and_has_no_outputs(alice: httpx.Client) -> None:
    run = get_run(alice, finished(alice, run_task(alice, "count", to=0)))
    assert run["phase"] == "failed"
    assert "cannot count to 0" in run["error"]
    assert alice.get(f"/runs/{run['name']}/io").json() == {"inputs": {"to": 0}, "outputs": None}

    found = alice.get("/runs", params={"task": f"{TASKS}.count", "phase": "failed"}).json()["runs"]
    # Lists do not say why.
    assert run | {"error": None} in [run | each for each in found if each["name"] == run["name"]]
    assert {(run["task"], run["phase"]) for run in found} == {(f"{TASKS}.count", "failed")}


@needs("/me")
def test_a_run_says_who_started_it(alice: httpx.Client, greeting: dict[str, Any]) -> None:
    shown = get_run(alice, greeting)["executed_by"]["subject"]
    assert shown == alice.get("/me").json()["subject"]


@pytest.mark.order
def test_runs_are_paged_newest_first_also_when_there_are_new_ones(alice: httpx.Client) -> None:
    for run in [run_task(alice, "greet", name=str(number)) for number in range(4)]:
        finished(alice, run)
    query: dict[str, str | int] = {"task": f"{TASKS}.greet", "limit": 2}
    first = alice.get("/runs", params=query).json()
    # Flyte keeps whole seconds: only from one to the next is it certain what is newer.
    second = int(time.time())
    wait_until(lambda: int(time.time()) > second)
    newer = {run_task(alice, "greet", name=str(number))["name"] for number in range(3)}
    rest = alice.get("/runs", params={**query, "token": first["next_token"]}).json()
    shown = [*first["runs"], *rest["runs"]]
    names = {run["name"] for run in shown}
    assert len(names) == 4
    assert not names & newer
    starts = [run["started_at"] for run in shown]
    assert starts == sorted(starts, reverse=True)


def test_project_and_domain_can_be_chosen_per_request(
    alice: httpx.Client, greeting: dict[str, Any]
) -> None:
    elsewhere = {"domain": "staging"}
    listed = alice.get("/runs", params={**elsewhere, "limit": 200}).json()["runs"]
    assert all(run["domain"] == "staging" for run in listed)  # others may run there too
    assert alice.get(f"/runs/{greeting['name']}", params=elsewhere).status_code == 404
    here = {"project": greeting["project"], "domain": greeting["domain"]}
    shown = alice.get(f"/runs/{greeting['name']}", params=here).json()
    assert shown == get_run(alice, greeting)


@pytest.mark.parametrize("path", ["/runs/none", "/runs/none/io"])
def test_a_run_that_does_not_exist_is_a_problem(alice: httpx.Client, path: str) -> None:
    response = alice.get(path)
    assert response.status_code == 404
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["title"] == "Not Found"


@pytest.mark.authorization
def test_who_may_run_may_abort_whoever_started_it_and_who_may_only_view_may_not(
    alice: httpx.Client, bob: httpx.Client, victor: httpx.Client
) -> None:
    with long_run(alice) as run:
        refused = victor.post(f"/runs/{run['name']}/abort")
        assert refused.status_code == 403
        assert "victor" in refused.json()["detail"]
        assert get_run(victor, run)["ended_at"] is None

        assert bob.post(f"/runs/{run['name']}/abort").status_code == 202
        assert get_run(alice, finished(alice, run))["phase"] == "aborted"


def test_a_run_is_linked_to_flytes_console(alice: httpx.Client, greeting: dict[str, Any]) -> None:
    run = get_run(alice, greeting)
    assert run["version"]
    assert run["url"].startswith("https://")
    assert run["url"].endswith(
        f"/domain/{run['domain']}/project/{run['project']}/runs/{run['name']}"
    )


def test_a_run_that_is_waited_for_comes_with_its_outputs(alice: httpx.Client) -> None:
    run = run_task(alice, "greet", name="Ada")
    shown = alice.get(f"/runs/{run['name']}", params={"wait": 20}).json()
    assert (shown["phase"], shown["outputs"]) == ("succeeded", {"o0": "Hello, Ada."})


def test_a_run_that_goes_on_longer_than_one_waits_is_shown_as_it_is(alice: httpx.Client) -> None:
    with long_run(alice) as run:
        shown = alice.get(f"/runs/{run['name']}", params={"wait": 0.1}).json()
    assert (shown["ended_at"], shown["outputs"]) == (None, None)


def test_aborting_what_has_ended_is_refused_and_changes_nothing(
    alice: httpx.Client, greeting: dict[str, Any]
) -> None:
    before = get_run(alice, greeting)
    refused = alice.post(f"/runs/{greeting['name']}/abort")
    assert refused.status_code == 409
    assert refused.json()["detail"] == f"the run '{greeting['name']}' has ended already"
    assert get_run(alice, greeting) == before


@pytest.mark.steers_flyte
def test_aborting_what_has_succeeded_is_refused_also_while_flyte_still_calls_it_running(
    alice: httpx.Client, local_flyte: LocalFlyte
) -> None:
    def has_succeeded() -> bool:
        attempts = remote.RunDetails.get(name=run["name"]).pb2.action.attempts
        return any(attempt.phase == ACTION_PHASE_SUCCEEDED for attempt in attempts)

    with local_flyte.status_lag(3), calling_as(alice):
        run = run_task(alice, "greet", name="Ada")
        wait_until(has_succeeded)
    assert alice.post(f"/runs/{run['name']}/abort").status_code == 409
    finished(alice, run)
    assert alice.get(f"/runs/{run['name']}/io").json()["outputs"] == {"o0": "Hello, Ada."}


@pytest.mark.parametrize("token", ["x", "****", "Li4v", "OTk5OTk5OTk5OTk5OTk5LmE="])
def test_a_forged_page_token_is_refused(alice: httpx.Client, token: str) -> None:
    refused = alice.get("/runs", params={"token": token})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["location"] == ["query", "token"]


@pytest.mark.steers_flyte
def test_data_that_is_too_large_for_flyte_to_hand_out_is_told_so(
    alice: httpx.Client, local_flyte: LocalFlyte, greeting: dict[str, Any]
) -> None:
    said = "limit exceeded. 3.1mb > 2mb."
    local_flyte.fail_next("GetActionData", Code.INTERNAL, message=said)
    refused = alice.get(f"/runs/{greeting['name']}/io")
    assert refused.status_code == 413
    assert "2 MiB" in refused.json()["detail"]
    local_flyte.fail_next("GetActionData", Code.INTERNAL, message="the store does not answer")
    assert alice.get(f"/runs/{greeting['name']}/io").status_code == 502


def test_very_many_phases_are_refused_in_few_words(alice: httpx.Client) -> None:
    refused = alice.get("/runs", params={"phase": ["none"] * 4000})
    assert refused.status_code == 422
    assert len(refused.content) < 1000


@pytest.mark.parametrize(
    "at", [{"seconds": 2**62}, {"seconds": -(2**62)}, {"seconds": 1, "nanos": -1}]
)
def test_an_invalid_time_is_null(at: dict[str, int]) -> None:
    assert _time(Timestamp(**at)) is None


class RunsOfOneSecond:
    """A Flyte that lists runs as a real one does: newest first, those of one second by name."""

    def __init__(self, runs: list[Run]) -> None:
        self.runs, self._all = self, runs
        self.org, self.run_url = "", lambda *_: ""

    async def list_runs(self, request: ListRunsRequest) -> ListRunsResponse:
        """Answer with a page; the token is the number of runs before it."""
        asked = request.request
        filters = {each.field: each.values for each in asked.filters}
        phases = filters.get("phase") or [str(run.action.status.phase) for run in self._all]
        listed = sorted(
            (run for run in self._all if str(run.action.status.phase) in phases),
            key=lambda run: (-run.action.status.start_time.seconds, run.action.id.run.name),
        )
        start = int(asked.token or 0)
        end = start + asked.limit
        return ListRunsResponse(runs=listed[start:end], token=str(end) if end < len(listed) else "")


def run_begun_at(second: int, number: int) -> Run:
    run = Run()
    run.action.id.run.name = f"r{number:04}"
    run.action.status.start_time.seconds = second
    run.action.status.phase = ACTION_PHASE_RUNNING
    return run


def names_on_all_pages(flyte: RunsOfOneSecond, limit: int, then: Callable[[], None]) -> list[str]:
    async def read() -> list[str]:
        names: list[str] = []
        token = None
        while True:
            page = await list_runs(
                cast("Flyte", flyte),
                ProjectDomain("", "p", "d"),
                phase=[ActionPhase.RUNNING],
                limit=limit,
                token=token,
            )
            names += [run.name for run in page.runs]
            token = page.next_token
            if not token:
                return names
            then()

    return asyncio.run(read())


def test_a_page_begins_behind_the_last_run_shown_although_that_has_left_the_list() -> None:
    runs = [run_begun_at(1000, number) for number in range(10)] + [run_begun_at(900, 99)]

    def end_the_third() -> None:
        runs[2].action.status.phase = ACTION_PHASE_ABORTED

    names = names_on_all_pages(RunsOfOneSecond(runs), 3, end_the_third)
    assert names == [run.action.id.run.name for run in runs]


@pytest.mark.parametrize(("many", "limit"), [(221, 1), (700, 20), (3000, 200)])
def test_many_runs_of_one_second_are_all_listed(many: int, limit: int) -> None:
    runs = [run_begun_at(1000, number) for number in range(many)] + [run_begun_at(900, 9999)]
    names = names_on_all_pages(RunsOfOneSecond(runs), limit, lambda: None)
    assert names == [run.action.id.run.name for run in runs]


@needs("/runs/x/abort", "POST")
@pytest.mark.parametrize("body", [{"reasn": "typo"}, {"reason": "a", "x": 1}, {"reason": 1}])
def test_an_abort_with_anything_but_a_reason_is_refused(
    alice: httpx.Client, greeting: dict[str, Any], body: dict[str, object]
) -> None:
    response = alice.post(f"/runs/{greeting['name']}/abort", json=body)
    assert response.status_code == 422

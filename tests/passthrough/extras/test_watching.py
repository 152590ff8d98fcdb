"""Watches of runs and of their actions, and runs that are waited for."""

import json
import re
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from weakref import WeakSet

import httpx
import pytest
from flyte import remote

from app.routers import conditions, runs, streams, tasks
from local_flyte import Code, LocalFlyte
from local_flyte import runs as local_runs
from local_flyte.testing import acting_as, ended, start, wait_until
from passthrough import RunDep, watch_details
from passthrough.extras import watching

from .. import naive_endpoints
from ..support import router_of, sent

router = router_of(conditions, runs, streams, tasks, naive_endpoints)


def changes(client: httpx.Client, run: str) -> list[dict[str, Any]]:
    """Return the actions that the stream of a run's actions sends, until it ends."""
    return [json.loads(event.data) for event in sent(client, run, "actions/events")]


# Watching


def test_watch_sends_each_change_until_run_ends(
    alice: httpx.Client, bob: httpx.Client, local_flyte: LocalFlyte, family: str
) -> None:
    with ThreadPoolExecutor(2) as threads:
        of_alice, of_bob = threads.map(lambda client: changes(client, family), (alice, bob))
    listed = {action["name"]: action for action in alice.get(f"/runs/{family}/actions").json()}
    for actions in (of_alice, of_bob, changes(bob, family)):
        assert {action["name"]: action for action in actions} == listed
    phases = [action["phase"] for action in of_alice if action["name"] == "a0"]
    assert phases[-1] == "failed"
    assert "running" in phases
    wait_until(lambda: local_flyte.open_calls("WatchActions") == 0)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (Code.UNAVAILABLE, "as if a proxy had cut it off"),
        (Code.INTERNAL, "parent node [x] not found"),  # a child's notification came first
    ],
)
def test_interrupted_watch_is_reopened_until_run_ends(
    alice: httpx.Client, local_flyte: LocalFlyte, code: Code, message: str
) -> None:
    run = start("tests.ask", prompts=["?"], fails_after=0.5)
    local_flyte.fail_next("WatchActions", code, after=1, message=message)
    actions = changes(alice, run)
    phases = {action["name"]: action["phase"] for action in actions}
    (asked,) = phases.keys() - {"a0"}
    assert (phases["a0"], phases[asked]) == ("failed", "paused")  # as it stays at Flyte


def test_watch_of_large_run_fetches_details_of_failed_actions(
    alice: httpx.Client, local_flyte: LocalFlyte, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended(family)
    monkeypatch.setattr(watching, "WATCHED_DETAILS", 0)
    monkeypatch.setattr(local_runs, "MAX_WATCHED_ACTIONS", 3)  # so that it is not in one message
    local_flyte.clear_calls()
    actions = changes(alice, family)
    assert [call.method for call in local_flyte.calls].count("GetActionDetails") == 2
    phases = sorted((action["phase"], bool(action["phases"])) for action in actions)
    assert phases == [("failed", True)] * 2 + [("succeeded", False)] * 2


class Kept:
    """A result that can be counted."""


kept, held = WeakSet[Kept](), list[AsyncGenerator[Kept]]()


@router.get("/runs/{name}/first")
async def read_first(run: RunDep) -> None:
    """Read one result, and leave the watch suspended, as a traceback may."""

    def read(_: remote.ActionDetails) -> Kept:
        kept.add(result := Kept())
        return result

    held.append(watch_details(run, read))
    await anext(held[0])


def test_unread_results_are_released_when_request_ends(alice: httpx.Client, family: str) -> None:
    assert alice.get(f"/runs/{ended(family)}/first").is_success
    wait_until(lambda: not kept)
    assert held
    held.clear()


# Waiting


def test_timeout_error_names_run_that_continues(short_timeout: httpx.Client) -> None:
    path, inputs = "/tasks/tests.count/run?project=flytesnacks", {"to": 100_000}
    response = short_timeout.post(path, json=inputs)
    assert response.status_code == 504
    detail = re.fullmatch("this took too long; the run (.+) goes on", response.json()["detail"])
    assert detail
    assert short_timeout.post(f"/runs/{detail[1]}/abort").is_success


def test_wait_for_run_reports_flyte_error(
    alice: httpx.Client, local_flyte: LocalFlyte, counting: str
) -> None:
    """With a 200, a client could not tell an error from the end of the waiting time."""
    local_flyte.fail_next("WatchActions", Code.UNAVAILABLE)
    assert alice.get(f"/runs/{counting}?wait=60").status_code == 503


RUNS = "/tasks/tests.greet/runs"


def test_started_run_is_reported_if_watch_hangs(
    short_timeout: httpx.Client, local_flyte: LocalFlyte
) -> None:
    with local_flyte.hang("WatchActions"):
        answer = short_timeout.post(f"{RUNS}?wait=600", json={"inputs": {"name": "Ada"}})
    assert answer.status_code == 201, answer.text
    with acting_as("alice"):
        assert remote.Run.get(name=answer.json()["name"]).name

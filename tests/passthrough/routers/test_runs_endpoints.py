"""The endpoints of app/routers/runs.py: what they show, and what takes effect."""

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.routers import conditions, runs, streams
from local_flyte import Code, LocalFlyte
from local_flyte.testing import client_of, ended, serving, start, wait_until
from passthrough.limits import Limits

from ..support import build_app, router_of, run_of

pytestmark = pytest.mark.usefixtures("certificate")
router = router_of(conditions, runs, streams)


# Actions


def test_actions_have_parents_attempts_groups_and_errors(
    alice: httpx.Client, family: str, local_flyte: LocalFlyte
) -> None:
    listed = alice.get(f"/runs/{ended(family)}/actions").json()
    root, *children = sorted(listed, key=lambda action: action["parent"] is not None)
    assert [root[key] for key in ("name", "title", "parent")] == ["a0", "family", None]
    keys = ("parent", "group", "task", "type")
    of_all = ["a0", "children", "tests.stumble", "task"]
    assert all([action[key] for key in keys] == of_all for action in children)
    ends = sorted((action["phase"], action["attempts"]) for action in children)
    assert ends == [("failed", 2), ("succeeded", 1), ("succeeded", 2)]
    (failed,) = (action for action in children if action["phase"] == "failed")
    assert "attempt 1 stumbles" in failed["error"]
    phases = [phase for phase in failed["phases"] if phase["attempt"] == 2]
    assert [phase["phase"] for phase in phases][-2:] == ["running", "failed"]
    for before, after in pairwise(phases):
        assert before["ended_at"] == after["started_at"]

    local_flyte.fail_next("GetActionDetails", Code.NOT_FOUND)  # as of a child just enqueued
    again = alice.get(f"/runs/{family}/actions").json()
    for key in ("name", "phase", "parent", "group", "started_at", "ended_at"):
        assert [action[key] for action in again] == [action[key] for action in listed]
    assert [action["title"] for action in again].count(None) == 1
    last = alice.get(f"/runs/{family}/actions", params={"offset": 3, "limit": 3})
    assert last.json() == listed[3:]


def test_recover_reuses_succeeded_actions(bob: httpx.Client, family: str, broken: Path) -> None:
    ended(family)
    broken.unlink()
    again = bob.post(f"/runs/{family}/rerun", json={"recover": True})
    assert again.status_code == 201
    actions = bob.get(f"/runs/{ended(again.json()['name'])}/actions").json()
    phases = sorted(action["phase"] for action in actions if action["parent"])
    assert phases == ["recovered", "recovered", "succeeded"]
    assert bob.get(f"/runs/{again.json()['name']}/io").json()["outputs"] == {"o0": [0, 1, 0]}


def test_rerun_with_unknown_input_is_refused(alice: httpx.Client, greeting: str) -> None:
    refused = alice.post(f"/runs/{greeting}/rerun", json={"inputs": {"nobody": 1}})
    assert refused.status_code == 422
    unknown = {"location": ["inputs", "nobody"], "detail": "the task has no such input"}
    assert refused.json()["errors"] == [unknown]


def test_unknown_inputs_of_rerun_cost_linear_time(alice: httpx.Client, greeting: str) -> None:
    """A search for each name in a text of all names would take 18 s of 80,000 names."""
    seconds = []
    for count in (5_000, 40_000):
        began = time.process_time()
        inputs = {str(number): 1 for number in range(count)}
        refused = alice.post(f"/runs/{greeting}/rerun", json={"inputs": inputs})
        seconds.append(time.process_time() - began)
        assert refused.json()["errors"][0]["location"] == ["inputs", "0"]
    assert seconds[1] < 16 * seconds[0]


def test_rerun_of_task_over_message_limit_is_413(
    alice: httpx.Client, local_flyte: LocalFlyte
) -> None:
    run = ended(start("tests.greet", name="Ada"))
    task = run_of(local_flyte, run).root.details.task
    task.task_template.container.args.append(Limits.max_message_bytes // 5 * "x")
    refused = alice.post(f"/runs/{run}/rerun")
    assert (refused.status_code, refused.json()["code"]) == (413, "message_too_large")
    assert alice.get(f"/runs/{run}").is_success
    assert alice.get(f"/runs/{run}/actions").json()[0]["title"] == "greet"


def test_location_header_includes_proxy_prefix(local_flyte: LocalFlyte, greeting: str) -> None:
    with serving(build_app(router), root_path="/flyte") as url, client_of(url, "alice") as alice:
        made = alice.post(f"/runs/{greeting}/rerun")  # the proxy has removed the prefix
        assert made.headers["Location"].startswith(f"/flyte/runs/{made.json()['name']}?")


# What took effect


@pytest.mark.parametrize(
    ("path", "body", "taken", "read"),
    [
        ("abort", {}, "AbortRun", "GetRunDetails"),
        ("actions/a0/abort", {}, "AbortAction", "GetActionDetails"),
        ("conditions/{action}", {"value": True}, "SignalEvent", "GetActionDetails"),
    ],
)
def test_successful_change_is_reported_if_later_read_fails(
    *, alice: httpx.Client, local_flyte: LocalFlyte, path: str, body: Any, taken: str, read: str
) -> None:
    run = start("tests.ask", prompts=["?"])
    wait_until(lambda: alice.get(f"/runs/{run}/conditions").json())
    (condition,) = alice.get(f"/runs/{run}/conditions").json()
    with ThreadPoolExecutor(1) as thread:
        with local_flyte.hang(taken):
            answer = thread.submit(alice.post, f"/runs/{run}/{path.format(**condition)}", json=body)
            wait_until(lambda: local_flyte.open_calls(taken))
            local_flyte.fail_next(read, Code.UNKNOWN, times=100)
        assert answer.result().is_success
    local_flyte.fail_next(read, Code.UNKNOWN, times=0)
    ended(run)

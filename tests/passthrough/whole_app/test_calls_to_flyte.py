"""Tests that each endpoint makes only the calls to Flyte in docs/tables/calls.toml."""

import asyncio
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

import httpx
import pages
import pytest

from app.routers import conditions, me, runs, streams, tasks
from local_flyte import LocalFlyte
from local_flyte.processes import Containers
from local_flyte.testing import ended, long_run, start, wait_until
from passthrough.extras import watching

from ..support import build_app, router_of, run_of, sent

router = router_of(conditions, me, runs, streams, tasks)
ROWS = pages.data("calls")["rows"]
BODIES: dict[str, Any] = {
    "/tasks/{name}/runs": {"inputs": {"name": "Ada"}},
    "/runs/{name}/conditions/{action}": {"value": True},
}


@pytest.fixture(scope="module")
def examples(local_flyte: LocalFlyte, greeting: str) -> dict[str, str]:
    """Return the name of a run in each state, and an action that waits for an answer."""
    asking = start("tests.ask", prompts=["?"])
    record = run_of(local_flyte, asking)
    wait_until(lambda: record.has_paused_action)
    with long_run("tests.count", to=100_000) as aborted:
        pass
    return {
        "": greeting,
        "aborted": ended(aborted),
        "failed": ended(start("tests.count", to=0)),
        "with a report": ended(start("tests.draw", html="")),
        "waiting for an answer": asking,
        "action": next(name for name in record.actions if name != "a0"),
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['request']} {row.get('run', '')}")
def test_endpoint_makes_only_documented_calls(
    alice: httpx.Client, local_flyte: LocalFlyte, examples: dict[str, str], row: dict[str, Any]
) -> None:
    method, _, path = row["request"].partition(" ")
    state = row.get("run", "")
    run = start("tests.count", to=100_000) if state == "running" else examples[state]
    name = "tests.greet" if path.startswith("/tasks") else run
    action = examples["action"] if "/conditions/" in path else "a0"
    local_flyte.clear_calls()
    headers = {"x-request-id": "00000000-calls"}
    url = path.format(name=name, action=action)
    response = alice.request(method, url, json=BODIES.get(path), headers=headers)
    calls = [call.method for call in local_flyte.calls if headers.items() <= call.headers.items()]
    if state == "running":
        alice.post(f"/runs/{run}/abort")
    assert response.status_code < 400, response.text
    while "recorded" in row.get("with", "") and calls[-1] == calls[-2]:
        calls.pop()  # the answer was not recorded yet
    assert calls == row["calls"]


def test_calls_table_lists_every_operation() -> None:
    paths = build_app(router).openapi()["paths"]
    operations = {(method.upper(), path) for path in paths for method in paths[path]}
    assert operations == {tuple(row["request"].partition("?")[0].split(" ")) for row in ROWS}


VIEWER = {"x-request-id": "of-a-viewer"}


def calls_of_viewer(local_flyte: LocalFlyte) -> Counter[str]:
    calls = [call for call in local_flyte.calls if VIEWER.items() <= call.headers.items()]
    return Counter(call.method for call in calls)


def test_viewer_of_pending_run_makes_few_calls(
    alice: httpx.Client, local_flyte: LocalFlyte, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events of the pod cause no calls."""
    may_start, execute = asyncio.Event(), Containers.run

    async def wait(*args: Any, **options: Any) -> int:
        await may_start.wait()
        return await execute(*args, **options)

    monkeypatch.setattr(Containers, "run", wait)
    monkeypatch.setattr(watching, "WAITING_SECONDS", 3600.0)
    run = start("tests.greet", name="Ada")
    root = run_of(local_flyte, run).root
    wait_until(lambda: root.details.attempts)

    def happens(number: int) -> None:
        root.details.attempts[-1].cluster_events.add(message=f"Back-off {number}")
        root._notify()

    local_flyte.clear_calls()
    with ThreadPoolExecutor(2) as threads, ExitStack() as at_the_end:
        at_the_end.callback(lambda: local_flyte._background.call(may_start.set))
        actions = threads.submit(sent, alice, run, "actions/events", **VIEWER)
        log = threads.submit(sent, alice, run, "logs", **VIEWER)
        wait_until(lambda: local_flyte.open_calls("WatchActions") == 2)
        for number in range(20):
            local_flyte._background.call(partial(happens, number))
            alice.get("/me")  # meanwhile, the app has been told, and could look
        calls = calls_of_viewer(local_flyte)
    assert calls == {"GetRunDetails": 1, "WatchActions": 2, "GetActionDetails": 3}
    assert "greeting Ada" in [event.data for event in log.result()]
    states = [json.loads(event.data) for event in actions.result()]
    assert (states[0]["phase"], states[-1]["phase"]) == ("initializing", "succeeded")


def test_viewer_makes_two_calls_per_action(
    alice: httpx.Client, local_flyte: LocalFlyte, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "MERGED_SECONDS", 3600.0)  # after it, once more
    local_flyte.clear_calls()
    run = start("tests.crowd", size=3)
    actions = sent(alice, run, "actions/events", **VIEWER)
    record = run_of(local_flyte, run)
    assert len(record.changed.notified) > 8 * len(record.actions) == 8 * 4
    calls = calls_of_viewer(local_flyte)
    assert calls.pop("GetActionDetails") <= 2 * 4
    assert calls == {"GetRunDetails": 1, "WatchActions": 1}
    states = [json.loads(event.data) for event in actions]
    phases = {state["name"]: state["phase"] for state in states}
    assert phases == dict.fromkeys(record.actions, "succeeded")

"""Watching all actions of a run: what changes, and when it ends."""

import asyncio
import json
import resource
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from flyte import remote
from flyteidl2.common.phase_pb2 import ACTION_PHASE_SUCCEEDED
from flyteidl2.workflow.run_definition_pb2 import Action, EnrichedAction, Run
from flyteidl2.workflow.run_service_pb2 import WatchActionsResponse

from app.routers import actions, conditions, runs
from local_flyte import LocalFlyte, ReceivedCall
from local_flyte import runs as local_runs
from local_flyte.testing import acting_as, ended, start, wait_until
from passthrough import watching
from passthrough.calls import interceptor
from passthrough.watching import watch_actions

router = APIRouter()
for module in (actions, conditions, runs):
    router.include_router(module.router)
Received = Callable[[], list[ReceivedCall]]


@router.get("/runs/{name}/watch")
async def watch(name: str) -> StreamingResponse:
    run = await remote.Run.get.aio(name)

    async def lines() -> AsyncGenerator[str]:
        async with aclosing(watch_actions(run)) as watched:
            async for changed in watched:
                yield json.dumps([(each.name, each.phase) for each in changed]) + "\n"

    return StreamingResponse(lines())


def told(client: httpx.Client, run: str) -> Iterator[list[list[str]]]:
    """Return the actions in each message, with their phases."""
    with client.stream("GET", f"/runs/{run}/watch") as log:
        yield from map(json.loads, log.iter_lines())


def test_a_watch_that_falls_silent_is_opened_again_and_ends_although_something_stays_paused(
    short_timeout: httpx.Client,
    local_flyte: LocalFlyte,
    received: Received,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(interceptor, "RENEWAL", 1)

    def opened() -> int:
        return [call.method for call in received()].count("WatchActions")

    run = start("tests.ask", prompts=["?"])
    (asking,) = (each for each in local_flyte._services.runs if each.id.name == run)
    wait_until(lambda: asking.asks)
    with local_flyte.hang("WatchActions", after=1):
        messages = told(short_timeout, run)
        root, condition = next(messages)  # all at once
        assert (root, condition[1]) == (["a0", "running"], "paused")
        wait_until(lambda: opened() > 1)
        with acting_as("alice"):
            remote.Run.get(run).abort()
        assert [*messages] == [[["a0", "aborted"]]]
    assert asking.asks
    assert opened() > 2


# With the details, as GET /runs/{name}/actions/events


def changes(client: httpx.Client, run: str) -> Iterator[dict[str, Any]]:
    """Return the actions that the stream of a run's actions sends, until it ends."""
    with client.stream("GET", f"/runs/{run}/actions/events") as stream:
        lines = [line for line in stream.iter_lines() if line and not line.startswith(":")]
    assert lines[::2] == ["event: action"] * (len(lines) // 2)
    yield from (json.loads(line.removeprefix("data: ")) for line in lines[1::2])


def test_each_action_is_sent_when_it_changes_as_the_list_shows_it_until_the_run_has_ended(
    alice: httpx.Client, bob: httpx.Client, local_flyte: LocalFlyte, tmp_path: Path
) -> None:
    (broken := tmp_path / "broken").touch()
    run = start("tests.family", broken=str(broken))
    with ThreadPoolExecutor(2) as threads:
        told, other = threads.map(lambda client: [*changes(client, run)], (alice, bob))
    listed = {each["name"]: each for each in alice.get(f"/runs/{run}/actions").json()}
    for seen in (told, other, [*changes(bob, run)]):
        assert {each["name"]: each for each in seen} == listed
    (failed,) = (each for each in listed.values() if each["phase"] == "failed" and each["parent"])
    assert "attempt 2 stumbles" in failed["error"]
    phases = [each["phase"] for each in told if each["name"] == "a0"]
    assert phases[-1] == "failed"
    assert "running" in phases
    wait_until(lambda: local_flyte.open_calls("WatchActions") == 0)


def test_a_question_is_sent_when_it_is_asked_and_when_it_is_answered(
    alice: httpx.Client, bob: httpx.Client
) -> None:
    run = start("tests.ask", prompts=["Publish?"])
    with ThreadPoolExecutor(1) as thread:
        told = thread.submit(lambda: [*changes(alice, run)])
        wait_until(lambda: bob.get(f"/runs/{run}/conditions").json())
        (condition,) = bob.get(f"/runs/{run}/conditions").json()
        bob.post(f"/runs/{run}/conditions/{condition['action']}", json={"value": True})
        seen = [each["condition"] for each in told.result() if each["condition"]]
    assert seen[0] == condition
    assert (seen[0]["prompt"], seen[0]["phase"]) == ("Publish?", "paused")
    assert seen[-1] == bob.get(f"/runs/{run}/conditions").json()[0]
    assert (seen[-1]["value"], seen[-1]["answered_by"]["subject"]) == (True, "bob-subject")


def test_details_are_fetched_ten_at_once(alice: httpx.Client, local_flyte: LocalFlyte) -> None:
    run = start("tests.ask", prompts=[str(number) for number in range(25)])
    wait_until(lambda: len(alice.get(f"/runs/{run}/conditions").json()) == 25)
    with ThreadPoolExecutor(2) as threads:
        with local_flyte.hang("GetActionDetails"):
            listed = threads.submit(alice.get, f"/runs/{run}/actions")
            wait_until(lambda: local_flyte.open_calls("GetActionDetails") == 10)
            told = threads.submit(lambda: [*changes(alice, run)])
            wait_until(lambda: local_flyte.open_calls("GetActionDetails") == 20)
            alice.get(f"/runs/{run}")  # time for more
            assert local_flyte.open_calls("GetActionDetails") == 20
        assert len(listed.result().json()) == 26
        alice.post(f"/runs/{run}/abort")
        assert len({each["name"] for each in told.result()}) == 26


def test_of_a_large_run_all_actions_come_and_only_what_went_wrong_is_fetched(
    alice: httpx.Client,
    local_flyte: LocalFlyte,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (broken := tmp_path / "broken").touch()
    run = ended(start("tests.family", broken=str(broken)))
    monkeypatch.setattr(watching, "MAX_WATCHED_DETAILS", 0)
    monkeypatch.setattr(local_runs, "WATCHED_AT_ONCE", 3)  # so that it is not in one message
    monkeypatch.setattr(watching, "MAX_ACTIONS_AT_ONCE", 2)
    local_flyte.clear_calls()
    told = [*changes(alice, run)]
    calls = [call.method for call in local_flyte.calls]
    assert Counter(calls)["GetActionDetails"] == 2
    shown = {(each["phase"], each["title"], bool(each["phases"])) for each in told}
    assert shown == {
        ("failed", "family", True), ("failed", "stumble", True), ("succeeded", "stumble", False),
    }  # fmt: skip
    assert len(told) == 4


@pytest.mark.anyio
async def test_memory_holds_neither_whole_messages_nor_many_large_actions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def memory() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    def enriched(name: str, phase: Any, title: str = "") -> EnrichedAction:
        action = EnrichedAction()
        action.action.id.name, action.action.status.phase = name, phase
        action.action.metadata.task.short_name = title
        return action

    async def messages(_: object) -> AsyncGenerator[WatchActionsResponse]:
        for number in range(40):
            large = enriched(f"large {number}", ACTION_PHASE_SUCCEEDED, "x" * 5_000_000)
            small = enriched(f"a{39 - number}", ACTION_PHASE_SUCCEEDED)
            sent = WatchActionsResponse(enriched_actions=[small, large]).SerializeToString()
            yield WatchActionsResponse.FromString(sent)

    service = SimpleNamespace(watch_actions=messages)
    flyte = SimpleNamespace(client=SimpleNamespace(run_service=service))
    monkeypatch.setattr(watching, "initialised", lambda: flyte)
    run, before = remote.Run(Run(action=Action())), memory()
    kept = [small async for small, *_ in watch_actions(run)]
    assert [each.name for each in kept] == [f"a{number}" for number in range(39, -1, -1)]
    assert memory() - before < 100_000_000

    changes = watching._Changes()
    listening = asyncio.create_task(changes.listen(run))
    for _ in range(1000):
        await asyncio.sleep(0)
    assert len(await changes.take(1000)) == 4  # then there are more
    listening.cancel()

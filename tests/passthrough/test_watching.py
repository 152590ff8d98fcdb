"""Watching all actions of a run: what changes, and when it ends."""

import json
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import httpx
from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from flyte import remote

from local_flyte import LocalFlyte, ReceivedCall
from local_flyte.testing import acting_as, start, wait_until
from passthrough.calls.watching import watch_actions

router = APIRouter()
Received = Callable[[], list[ReceivedCall]]


@router.get("/runs/{name}/watch")
async def watch(name: str) -> StreamingResponse:
    run = await remote.Run.get.aio(name)

    async def lines() -> AsyncGenerator[str]:
        async with aclosing(watch_actions(run)) as changes:
            async for actions in changes:
                shown = [
                    (each.name, each.pb2.metadata.task.short_name, each.phase, str(each.pb2.status))
                    for each in actions
                ]
                yield json.dumps(shown) + "\n"

    return StreamingResponse(lines())


def told(client: httpx.Client, run: str) -> Iterator[list[list[str]]]:
    """Return the actions in each message, with their titles, phases and states."""
    with client.stream("GET", f"/runs/{run}/watch") as log:
        yield from map(json.loads, log.iter_lines())


def test_all_actions_come_at_once_then_what_changes_until_the_run_has_ended(
    alice: httpx.Client, bob: httpx.Client, local_flyte: LocalFlyte, tmp_path: Path
) -> None:
    run = start("tests.family", broken=str(tmp_path / "none"))
    states = [tuple(each) for message in told(alice, run) for each in message]
    assert states[0][:2] == ("a0", "family")
    known = [state for state in states if state[2] not in ("queued", "initializing")]
    assert len({*known}) == len(known)
    last = {name: (title, phase) for name, title, phase, _ in states}
    assert [*last.values()] == [("family", "succeeded"), *[("stumble", "succeeded")] * 3]
    (snapshot,) = told(bob, run)
    assert {name: (title, phase) for name, title, phase, _ in snapshot} == last
    wait_until(lambda: local_flyte.open_calls("WatchActions") == 0)


def test_a_watch_that_falls_silent_is_opened_again_and_ends_although_something_stays_paused(
    short_timeout: httpx.Client, local_flyte: LocalFlyte, received: Received
) -> None:
    def opened() -> int:
        return [call.method for call in received()].count("WatchActions")

    run = start("tests.ask", prompts=["?"])
    (asking,) = (each for each in local_flyte._services.runs if each.id.name == run)
    wait_until(lambda: asking.asks)
    with local_flyte.hang("WatchActions", after=1):
        messages = told(short_timeout, run)
        root, condition = next(messages)
        assert (root[1:3], condition[2]) == (["ask", "running"], "paused")
        wait_until(lambda: opened() > 1)
        with acting_as("alice"):
            remote.Run.get(run).abort()
        assert [each[:3] for message in messages for each in message] == [["a0", "ask", "aborted"]]
    assert asking.asks
    assert opened() > 2

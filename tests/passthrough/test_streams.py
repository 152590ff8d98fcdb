"""What streams hold while they are open, and what they say of attempts."""

import gc
import json
import re
from contextlib import ExitStack

import flyte
import httpx
from fastapi import APIRouter
from flyte import remote

from app.routers import runs, streams
from local_flyte import LocalFlyte
from local_flyte.testing import acting_as, events, start

router = APIRouter()


@router.post("/tasks/{name}")
async def run_to_its_end(name: str) -> str:
    run = await flyte.run.aio(remote.Task.get(name, auto_version="latest"), to=100_000)
    await run.wait.aio()
    return str(run.name)


router.include_router(runs.router)
router.include_router(streams.router)

DETAILS = {
    *("RunDetails", "ActionDetails", "GetRunDetailsResponse", "GetActionDetailsResponse"),
    *("WatchActionDetailsResponse", "TaskSpec", "TaskTemplate"),
}


def details() -> int:
    """Count Flyte's messages with the specification of a task that are in memory."""
    gc.collect()
    return sum(type(each).__name__ in DETAILS for each in gc.get_objects())


def test_open_streams_hold_names_and_states_but_no_details(
    alice: httpx.Client, counting: str, local_flyte: LocalFlyte
) -> None:
    with ExitStack() as stack:
        before = details()  # those of the local Flyte, which is in this process, too
        reading = []
        for kind in ("events", "logs", "actions/events", "logs", "events") * 2:
            stream = stack.enter_context(alice.stream("GET", f"/runs/{counting}/{kind}"))
            reading.append(events(stream))
            assert next(reading[-1]).data
        assert [*map(local_flyte.open_calls, ("WatchActions", "TailLogs"))] == [6, 4]
        assert details() <= before


def test_a_further_attempt_is_an_event_also_after_a_pause(alice: httpx.Client) -> None:
    run = start("tests.stumble", times=1)
    told = [*events(alice.get(f"/runs/{run}/events"))]
    (place,) = (place for place, event in enumerate(told) if event.type == "attempt")
    assert json.loads(told[place].data)["attempts"] == 2
    assert [event.id for event in told[place:]] == ["2-running", "2-succeeded"]
    for seen, ids in (
        ("1-running", ["2-running", "2-succeeded"]),
        ("2-running", ["2-succeeded"]),
        ("2-succeeded", []),
    ):
        resumed = alice.get(f"/runs/{run}/events", headers={"Last-Event-ID": seen})
        assert [event.id for event in events(resumed)] == ids
    assert alice.get(f"/runs/{run}/events", headers={"Last-Event-ID": "x"}).status_code == 422


def test_a_task_that_takes_too_long_is_answered_with_its_run_and_where_to_watch_it(
    short_timeout: httpx.Client,
) -> None:
    answer = short_timeout.post("/tasks/tests.count?project=flytesnacks")
    assert answer.status_code == 504
    found = re.fullmatch(
        "this took too long; the run (.+) goes on: watch it at (.+)", answer.json()["detail"]
    )
    assert found
    assert found[2] == f"/runs/{found[1]}/events?project=flytesnacks"
    with acting_as("alice"):
        remote.Run.get(found[1]).abort()
    assert [*events(short_timeout.get(found[2]))][-1].id == "1-aborted"

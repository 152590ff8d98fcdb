"""Watching a run: its phases as server-sent events, and its logs.

Deployments and proxies cut streams off after some minutes. A client can resume one where it was cut
off by sending ``Last-Event-ID``, as browsers do.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.sse import EventSourceResponse, ServerSentEvent
from flyte import remote
from flyte.errors import LogsNotYetAvailableError

from passthrough.calls.runs import attempts_of, log_of
from passthrough.dependencies import ActionDep, RunDep
from passthrough.models import phase_of

from ..models import Run

router = APIRouter(tags=["runs"])

LAST_EVENT_ID = "The id of the last event received."
GONE = 999_999_999  # the number of the event that says that an attempt's log is gone


@router.get("/runs/{name}/events", summary="Watch a run", response_class=EventSourceResponse)
async def run_events(
    run: RunDep,
    last_event_id: Annotated[str | None, Header(description=LAST_EVENT_ID)] = None,
) -> AsyncGenerator[ServerSentEvent]:
    """Send the run as a `phase` event now and whenever its phase changes, until it has ended.

    If Flyte fails after the first event, the last one is a `problem`.
    """
    seen = last_event_id
    async for state in run.watch():
        phase = phase_of(state.raw_phase)
        if phase and phase.value != seen:
            seen = phase.value
            yield ServerSentEvent(event="phase", id=seen, data=Run.of(run))


@router.get("/runs/{name}/logs", summary="Read a log", response_class=EventSourceResponse)
async def run_logs(
    action: ActionDep,
    last_event_id: Annotated[
        str, Header(pattern=r"^[1-9]\d{0,8}-\d{1,9}$", description=LAST_EVENT_ID)
    ] = "1-0",
) -> AsyncGenerator[ServerSentEvent]:
    """Send the log of a run, or of one action, over all attempts until it has ended.

    Each message, or part of a long one, is an event with the id `attempt-number`. An `attempt` event
    comes before a further attempt, and `unavailable` if Flyte no longer has an attempt's log. If
    Flyte fails after the first event, the last one is a `problem`.
    """
    attempt, seen = map(int, last_event_id.split("-"))
    is_read = seen == GONE
    while True:
        number = 0
        if seen < GONE:
            with suppress(LogsNotYetAvailableError):
                async for text in log_of(action, attempt):
                    number += 1
                    if number > seen:
                        yield ServerSentEvent(id=f"{attempt}-{number}", raw_data=text)
                is_read = True
        seen = max(seen, number)
        # Flyte ends the log with the attempt's pod, and records the attempt's end later.
        action = await remote.Action.get.aio(run_name=action.run_name, name=action.name)
        is_last = attempts_of((await action.details()).pb2) <= attempt
        if is_last and not action.done():
            await asyncio.sleep(1)
            continue
        if not is_read:
            gone = {"attempt": attempt}
            yield ServerSentEvent(event="unavailable", id=f"{attempt}-{GONE}", data=gone)
        if is_last:
            return
        attempt, seen, is_read = attempt + 1, 0, False
        yield ServerSentEvent(event="attempt", id=f"{attempt}-0", data={"attempt": attempt})

"""Watching a run: its phases as server-sent events, and its logs.

Deployments and proxies cut streams off after some minutes. A client can resume one where it was cut
off by sending ``Last-Event-ID``, as browsers do.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.sse import EventSourceResponse, ServerSentEvent

from passthrough import LOG_ID, ActionDep, RunDep, follow_log, watch_run

from ..models import Run

router = APIRouter(tags=["runs"])

LAST_EVENT_ID = "The id of the last event received."


@router.get("/runs/{name}/events", summary="Watch a run", response_class=EventSourceResponse)
async def run_events(
    run: RunDep,
    last_event_id: Annotated[
        str, Header(pattern=r"^\d{1,9}-[a-z_]*$", description=LAST_EVENT_ID)
    ] = "1-",
) -> AsyncGenerator[ServerSentEvent]:
    """Send the run as a `phase` event now and whenever its phase changes, until it has ended.

    When a further attempt begins, the run is sent as an `attempt` event. An id is `attempt-phase`.
    If Flyte fails after the first event, the last one is a `problem`.
    """
    before, _, phase = last_event_id.partition("-")
    attempt = int(before)
    async with aclosing(watch_run(run)) as states:
        async for state in states:
            now = Run.of(state)
            if now.attempts > attempt:
                attempt = now.attempts
                yield ServerSentEvent(event="attempt", id=f"{attempt}-{phase}", data=now)
            if now.phase and now.phase.value != phase:
                phase = now.phase.value
                yield ServerSentEvent(event="phase", id=f"{attempt}-{phase}", data=now)


@router.get("/runs/{name}/logs", summary="Read a log", response_class=EventSourceResponse)
async def run_logs(
    action: ActionDep,
    last_event_id: Annotated[str, Header(pattern=LOG_ID, description=LAST_EVENT_ID)] = "1-0",
) -> AsyncGenerator[ServerSentEvent]:
    """Send the log of a run, or of one action, over all attempts until it has ended.

    Each message, or part of a long one, is an event with the id `attempt-number`. An `attempt` event
    comes before a further attempt, and `unavailable` if Flyte no longer has an attempt's log, or the
    rest of it. If Flyte fails after the first event, the last one is a `problem`.
    """
    async with aclosing(follow_log(action, last_event_id)) as log:
        async for event in log:
            yield event

"""Streams of the phases and the logs of a run, as server-sent events.

Proxies end streams after some minutes. A client that sends ``Last-Event-ID``, as browsers do,
resumes the stream after that event.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.sse import EventSourceResponse, ServerSentEvent

from passthrough import LOG_ID, ActionDep, RunDep, follow_log, watch_run

from ..models import Run

router = APIRouter(tags=["runs"])

EVENT_ID = r"^\d{1,9}-[a-z_]*$"
LAST_EVENT_ID = "Id of the last received event; the stream resumes after this event"


@router.get("/runs/{name}/events", summary="Watch a run", response_class=EventSourceResponse)
async def run_events(
    run: RunDep,
    last_event_id: Annotated[str, Header(pattern=EVENT_ID, description=LAST_EVENT_ID)] = "1-",
) -> AsyncGenerator[ServerSentEvent]:
    """Watch a run as server-sent events, until it has ended.

    The app sends the run as a `phase` event, at once and after each change of the phase. The app
    sends the run as an `attempt` event when a further attempt begins. The id of an event is
    `attempt-phase`. If Flyte fails after the first event, the last event is a `problem` event with
    the error (RFC 9457).
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


@router.get(
    "/runs/{name}/logs", summary="Read the log of a run", response_class=EventSourceResponse
)
async def run_logs(
    action: ActionDep,
    last_event_id: Annotated[str, Header(pattern=LOG_ID, description=LAST_EVENT_ID)] = "1-0",
) -> AsyncGenerator[ServerSentEvent]:
    """Read the log of a run, or of one action, as server-sent events, until the action has ended.

    Each message, or part of a long message, is an event with the id `attempt-number`. An `attempt`
    event comes before the log of a further attempt. An `unavailable` event means that Flyte no
    longer has the log of an attempt, or the rest of the log. If Flyte fails after the first event,
    the last event is a `problem` event with the error (RFC 9457).
    """
    async with aclosing(follow_log(action, last_event_id)) as log:
        async for event in log:
            yield event

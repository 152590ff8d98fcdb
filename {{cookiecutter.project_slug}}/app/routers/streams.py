"""Watching a run: its phases as server-sent events, and its logs.

Deployments and proxies cut streams off after some minutes. A client can resume one where it was cut
off by sending ``Last-Event-ID``, as browsers do.
"""

from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.sse import EventSourceResponse, ServerSentEvent

from passthrough import LOG_ID, ActionDep, RunDep, follow_log, phase_of

from ..models import Run

router = APIRouter(tags=["runs"])

LAST_EVENT_ID = "The id of the last event received."


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
    last_event_id: Annotated[str, Header(pattern=LOG_ID, description=LAST_EVENT_ID)] = "1-0",
) -> AsyncGenerator[ServerSentEvent]:
    """Send the log of a run, or of one action, over all attempts until it has ended.

    Each message, or part of a long one, is an event with the id `attempt-number`. An `attempt` event
    comes before a further attempt, and `unavailable` if Flyte no longer has an attempt's log, or the
    rest of it. If Flyte fails after the first event, the last one is a `problem`.
    """
    async for each in follow_log(action, last_event_id):
        if each.kind == "line":
            yield ServerSentEvent(id=each.id, raw_data=each.text)
        else:
            yield ServerSentEvent(event=each.kind, id=each.id, data={"attempt": each.attempt})

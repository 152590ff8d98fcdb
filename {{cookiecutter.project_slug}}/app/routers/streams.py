"""Watching a run: its phases as server-sent events or over a WebSocket, and its log.

Deployments and proxies cut streams off after some minutes. A client can resume one where it was cut
off by sending ``Last-Event-ID``, as browsers do.
"""

from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, Header, Request, WebSocket
from fastapi.sse import EventSourceResponse, ServerSentEvent

from passthrough.dependencies import RunDep, phase_of
from passthrough.requests.lifetime import only_sending
from passthrough.requests.problems import documented, problem_event

from ..models import Run

router = APIRouter(tags=["runs"])

LAST_EVENT_ID = "The id of the last event received."
LONGEST = 64 * 1024  # characters in one event of a log


@router.get(
    "/runs/{name}/events",
    summary="Watch a run",
    response_class=EventSourceResponse,
    responses=documented(404),
)
@problem_event
async def run_events(
    request: Request,
    run: RunDep,
    last_event_id: Annotated[str | None, Header(description=LAST_EVENT_ID)] = None,
) -> AsyncGenerator[ServerSentEvent]:
    """Send the run as a `phase` event now and whenever its phase changes, until it has ended.

    If Flyte fails, the last event is a `problem`.
    """
    seen = last_event_id
    async for state in run.watch():
        phase = phase_of(state)
        if phase and phase.value != seen:
            seen = phase.value
            yield ServerSentEvent(event="phase", id=seen, data=Run.of(run))


@router.get(
    "/runs/{name}/logs",
    summary="Read a run's log",
    response_class=EventSourceResponse,
    responses=documented(404),
)
@problem_event
async def run_logs(
    request: Request,
    run: RunDep,
    last_event_id: Annotated[int, Header(ge=0, description=LAST_EVENT_ID)] = 0,
) -> AsyncGenerator[ServerSentEvent]:
    """Send the log, an event for each message or part of a long one, until the run has ended.

    If Flyte fails, the last event is a `problem`.
    """
    number = 0
    async for message in run.get_logs.aio():
        text = message.removeprefix(" ").rstrip("\n")  # the SDK puts a space before each
        for start in range(0, len(text) or 1, LONGEST):
            number += 1
            if number > last_event_id:
                yield ServerSentEvent(id=str(number), raw_data=text[start : start + LONGEST])


@router.websocket("/runs/{name}/watch")
async def watch_run(websocket: WebSocket, run: RunDep) -> None:
    """Send the run as JSON now and whenever its phase changes; close when it has ended."""
    phase = None
    async with only_sending(websocket):
        async for state in run.watch():
            if phase != (phase := phase_of(state)):
                await websocket.send_text(Run.of(run).model_dump_json())

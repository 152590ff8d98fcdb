"""Watching a run: its phases as server-sent events or over a WebSocket, and its log.

Deployments and proxies cut streams off after some minutes. Each can be taken up again where it was
cut off: events by ``Last-Event-ID``, as browsers do it, the log by ``skip``.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response, WebSocket
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from flyte.models import ActionPhase
from flyteidl2.common.identifier_pb2 import ActionIdentifier
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketState

from ..dependencies import FlyteDep, RunIdDep
from ..flyte_client import Flyte
from ..problems import FLYTE_ERRORS, documented, problem_for
from ..watching import log, phase_of, states
from .runs import Run

router = APIRouter(tags=["runs"])
websocket_router = APIRouter(tags=["runs"])

UNBUFFERED = {"X-Accel-Buffering": "no"}
"""Else nginx holds back what is sent until it is worth the trouble."""

ENDS = {phase.value for phase in ActionPhase if phase.is_terminal}


class Stream(StreamingResponse):
    """Sends what a generator yields, and closes the generator when the client has left.

    What fails before the first chunk is told by the status, as for any other response.
    """

    body_iterator: AsyncGenerator[bytes]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send the response. `DisconnectMiddleware` cancels this when the client leaves."""
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        async with aclosing(self.body_iterator) as chunks:
            chunk = await anext(chunks, b"")
            await send(start)
            if chunk:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            async for chunk in chunks:
                if chunk:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


class EventStream(Stream):
    """A stream of server-sent events."""

    media_type = "text/event-stream"


class TextStream(Stream):
    """Text that is sent as it comes."""

    media_type = "text/plain"


@router.get(
    "/runs/{name}/events",
    summary="Watch a run",
    response_class=EventStream,
    responses={204: {"description": "The phase last seen was the last."}, **documented(404, 422)},
)
async def run_events(
    request: Request,
    flyte: FlyteDep,
    action_id: RunIdDep,
    last_event_id: Annotated[str | None, Header(description="The phase last seen.")] = None,
) -> Response:
    """Send the run as a `phase` event now and whenever its phase changes, until it has ended.

    If Flyte fails on the way, a `problem` event comes last.
    """
    runs = _phases(flyte, action_id)
    if last_event_id in ENDS:
        # A browser asks again when the stream has ended, unless it is told that there is no more.
        async with aclosing(runs):
            if (run := await anext(runs)) and run.phase == last_event_id:
                return Response(status_code=204)
        runs = _phases(flyte, action_id)
    return EventStream(_events(request, runs, last_event_id), headers=UNBUFFERED)


async def _events(
    request: Request, runs: AsyncGenerator[Run | None], last_seen: str | None
) -> AsyncGenerator[bytes]:
    is_first = True
    try:
        async with aclosing(runs):
            async for run in runs:
                if run is None or (is_first and run.phase == last_seen):
                    yield KEEPALIVE_COMMENT
                else:
                    data = run.model_dump_json()
                    yield format_sse_event(
                        event="phase", data_str=data, id=run.phase and run.phase.value
                    )
                is_first = False
    except FLYTE_ERRORS as error:
        if is_first:
            raise
        problem = problem_for(request, error).model_dump_json(exclude_none=True)
        yield format_sse_event(event="problem", data_str=problem)


@router.get(
    "/runs/{name}/logs",
    summary="Read a run's log",
    response_class=TextStream,
    responses=documented(404, 410, 422),
)
async def run_logs(
    request: Request,
    flyte: FlyteDep,
    action_id: RunIdDep,
    skip: Annotated[int, Query(ge=0, description="Lines from the beginning to leave out.")] = 0,
) -> TextStream:
    """Stream the log, line by line, until the run has ended.

    Each line ends with a newline. If Flyte fails on the way, what comes last says so, in brackets
    and without a newline: it is no line of the log, and not to be counted in `skip`.
    """
    return TextStream(_text(request, flyte, action_id, skip), headers=UNBUFFERED)


async def _text(
    request: Request, flyte: Flyte, action_id: ActionIdentifier, skip: int
) -> AsyncGenerator[bytes]:
    is_first = True
    try:
        async with aclosing(log(flyte, action_id, skip)) as batches:
            async for lines in batches:
                is_first = False
                yield "".join(line.rstrip("\n") + "\n" for line in lines or ()).encode()
    except FLYTE_ERRORS as error:
        if is_first:
            raise
        problem = problem_for(request, error)
        yield f"[the log breaks off here: {problem.title}]".encode()


@websocket_router.websocket("/runs/{name}/watch")
async def watch_run(websocket: WebSocket, flyte: FlyteDep, action_id: RunIdDep) -> None:
    """Send the run as JSON now and whenever its phase changes; close when it has ended."""

    async def send_phases() -> None:
        async with aclosing(_phases(flyte, action_id)) as runs:
            async for run in runs:
                if websocket.application_state is WebSocketState.CONNECTING:
                    await websocket.accept()
                if run is not None:
                    await websocket.send_text(run.model_dump_json())
        await websocket.close()

    async def await_disconnect() -> None:
        while (await websocket.receive())["type"] != "websocket.disconnect":
            pass  # what the client says is of no interest

    await websocket.receive()  # its wish to connect
    sending = asyncio.ensure_future(send_phases())
    leaving = asyncio.ensure_future(await_disconnect())
    try:
        await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            await sending
    finally:
        sending.cancel()
        leaving.cancel()
        await asyncio.wait({sending, leaving})


async def _phases(flyte: Flyte, action_id: ActionIdentifier) -> AsyncGenerator[Run | None]:
    phase = None
    async with aclosing(states(flyte, action_id)) as found:
        async for state in found:
            if state is None:
                yield None
            elif phase is None or phase_of(state) is not phase:
                phase = phase_of(state)
                yield Run.of(state, flyte)

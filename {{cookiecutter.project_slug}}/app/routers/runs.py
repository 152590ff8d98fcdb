"""Runs: what they are, what they do, what came out of them, and stopping them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any, Self

import flyte.errors
from fastapi import APIRouter, Body, Query, Request, WebSocket
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from flyte import remote
from flyte.models import ActionPhase
from flyteidl2.common.identity_pb2 import EnrichedIdentity
from flyteidl2.workflow.run_definition_pb2 import Action, ActionDetails
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import BaseModel, Field
from pydantic_core import to_jsonable_python

from .. import flyte_client
from ..dependencies import RunDep, ScopeDep, SettingsDep
from ..problems import FLYTE_ERRORS, documented, problem_for
from ..settings import Settings

router = APIRouter(tags=["runs"])
websocket_router = APIRouter(tags=["runs"])


class Identity(BaseModel):
    """Who did something: a person, or an application with an identity of its own."""

    subject: str = Field(examples=["00u1alice"])
    name: str = Field(examples=["Alice Liddell"])

    @classmethod
    def of(cls, identity: EnrichedIdentity) -> Self:
        """Read an identity as Flyte records it."""
        if identity.HasField("application"):
            app = identity.application
            return cls(subject=app.id.subject, name=app.spec.name)
        user = identity.user
        return cls(
            subject=user.id.subject, name=f"{user.spec.first_name} {user.spec.last_name}".strip()
        )


class Run(BaseModel):
    """A run and its state."""

    name: str = Field(examples=["r4f7d1c02"])
    project: str
    domain: str
    task: str | None = Field(description="The task's full name")
    phase: ActionPhase
    executed_by: Identity | None = Field(description="Whose run this is")
    started_at: datetime | None
    ended_at: datetime | None
    error: str | None = Field(description="Why it failed")

    @classmethod
    def of(cls, root: Action | ActionDetails) -> Self:
        """Read a run from its root action, in which Flyte keeps all of this."""
        error = root.error_info.message if isinstance(root, ActionDetails) else ""
        metadata = root.metadata
        return cls(
            name=root.id.run.name,
            project=root.id.run.project,
            domain=root.id.run.domain,
            task=metadata.task.id.name or None,
            phase=ActionPhase.from_protobuf(root.status.phase),
            executed_by=(
                Identity.of(metadata.executed_by) if metadata.HasField("executed_by") else None
            ),
            started_at=_time(root.status.start_time),
            ended_at=_time(root.status.end_time),
            error=error or None,
        )


class PlainTextStream(StreamingResponse):
    """Text that is sent as it comes."""

    media_type = "text/plain"


class RunPage(BaseModel):
    """Some of the runs that were asked for, newest first."""

    runs: list[Run]
    next_offset: int | None = Field(description="Where the next page starts, if there is one")


class RunData(BaseModel):
    """What went into a run and what came out, by name. Outputs are called o0, o1, ..."""

    inputs: dict[str, Any] = Field(examples=[{"name": "Ada"}])
    outputs: dict[str, Any] | None = Field(
        description="Only of a run that succeeded", examples=[{"o0": "Hello, Ada."}]
    )


def _time(at: Timestamp) -> datetime | None:
    return at.ToDatetime(UTC) if at.seconds else None


@router.get("/runs", summary="List runs")
async def list_runs(
    scope: ScopeDep,
    task: Annotated[str | None, Query(description="Only runs of this task (full name).")] = None,
    phase: Annotated[list[ActionPhase] | None, Query(description="Only runs in these.")] = None,
    offset: Annotated[int, Query(ge=0, le=1000)] = 0,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> RunPage:
    """List the runs that the caller may see, newest first."""
    found = remote.Run.listall.aio(
        task_name=task,
        in_phase=tuple(phase) if phase else None,
        project=scope.project,
        domain=scope.domain,
        sort_by=("created_at", "desc"),
        limit=offset + limit + 1,
    )
    runs = [Run.of(run.pb2.action) async for run in found]
    end = offset + limit
    return RunPage(runs=runs[offset:end], next_offset=end if len(runs) > end else None)


@router.get("/runs/{name}", summary="Get a run", responses=documented(404))
async def get_run(run: RunDep) -> Run:
    """Return a run's state, and the error if it failed."""
    # A run's own details leave the error out; those of its root action have it.
    root = await remote.ActionDetails.get_details.aio(run.action_id)
    return Run.of(root.pb2)


@router.get("/runs/{name}/io", summary="Get a run's inputs and outputs", responses=documented(404))
async def get_run_io(run: RunDep) -> RunData:
    """Return what went in, and what came out once the run has succeeded."""
    inputs = await run.inputs()
    succeeded = run.action_details.phase is ActionPhase.SUCCEEDED
    outputs = (await run.outputs()).named_outputs if succeeded else None
    # Values that JSON has no form for (a file's handle, a model) are shown as Python would.
    return RunData.model_validate(
        to_jsonable_python({"inputs": dict(inputs or {}), "outputs": outputs}, fallback=repr)
    )


@router.post(
    "/runs/{name}/abort", status_code=202, summary="Abort a run", responses=documented(404, 409)
)
async def abort_run(
    run: RunDep, reason: Annotated[str, Body(embed=True, max_length=1000)] = "Aborted in the app"
) -> None:
    """Ask Flyte to stop a run. Whether the caller may is for Flyte to say."""
    await flyte_client.as_run(run).abort.aio(reason=reason)


@router.get(
    "/runs/{name}/events",
    summary="Watch a run",
    response_class=EventSourceResponse,
    responses=documented(404),
)
async def run_events(
    request: Request, run: RunDep, settings: SettingsDep
) -> AsyncIterator[ServerSentEvent]:
    """Send the run as a `phase` event now and whenever its phase changes, until it has ended.

    If Flyte fails on the way, a `problem` event comes last.
    """
    try:
        async for state in _phases(run, settings):
            yield ServerSentEvent(event="phase", data=state)
    except FLYTE_ERRORS as error:
        yield ServerSentEvent(event="problem", data=problem_for(request, error))


@router.get(
    "/runs/{name}/logs",
    summary="Read a run's logs",
    response_class=PlainTextStream,
    responses=documented(404),
)
async def run_logs(run: RunDep, settings: SettingsDep) -> AsyncIterator[str]:
    """Stream the log, line by line, until the run has ended. Cut short if Flyte fails."""
    lines = flyte_client.as_run(run).get_logs.aio()
    try:
        async for line in flyte_client.follow(lines, run, settings):
            yield line.rstrip("\n") + "\n"
    except flyte.errors.LogsNotYetAvailableError:
        return  # it never wrote any


@websocket_router.websocket("/runs/{name}/watch")
async def watch_run(websocket: WebSocket, run: RunDep, settings: SettingsDep) -> None:
    """Send the run as JSON now and whenever its phase changes; close when it has ended."""

    async def send_phases() -> None:
        async for state in _phases(run, settings):
            await websocket.send_text(state.model_dump_json())

    await websocket.accept()
    sending = asyncio.ensure_future(send_phases())
    leaving = asyncio.ensure_future(websocket.receive())  # the client has nothing else to say
    try:
        await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not leaving.done():
            await sending
            await websocket.close()
    finally:
        sending.cancel()
        leaving.cancel()
        await asyncio.gather(sending, leaving, return_exceptions=True)


async def _phases(run: remote.RunDetails, settings: Settings) -> AsyncIterator[Run]:
    phase = None
    updates = remote.ActionDetails.watch.aio(run.action_id)
    async for root in flyte_client.follow(updates, run, settings):
        if root.phase is not phase:
            phase = root.phase
            yield Run.of(root.pb2)

"""Runs: what they are, what came out of them, and stopping them."""

import asyncio
import base64
import re
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple, Self

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from fastapi import APIRouter, Body, HTTPException, Query
from fastapi.exceptions import RequestValidationError
from flyte.models import ActionPhase
from flyteidl2.common.identifier_pb2 import ActionIdentifier
from flyteidl2.common.identity_pb2 import EnrichedIdentity
from flyteidl2.common.list_pb2 import Filter, ListRequest, Sort
from flyteidl2.dataproxy.dataproxy_service_pb2 import GetActionDataResponse
from flyteidl2.workflow.run_definition_pb2 import Action, ActionDetails
from flyteidl2.workflow.run_service_pb2 import (
    AbortRunRequest,
    ListRunsRequest,
)
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import BaseModel, ConfigDict, Field

from ..dependencies import FlyteDep, ProjectDomainDep, RunDep, RunIdDep
from ..flyte_client import Flyte
from ..literals import to_json
from ..problems import FLYTE_ERRORS, documented
from ..watching import SUCCESSES, has_ended, has_succeeded, phase_of, states

router = APIRouter(tags=["runs"])

LONGEST_ERROR = 20_000  # characters of what a task has raised
MOST_AT_ONCE = 200
"""Runs that Flyte returns in one answer."""
MOST_CALLS = 50
"""Answers that one page is put together from; usually it is one."""

WaitQuery = Annotated[
    float,
    Query(ge=0, description="Seconds to wait for the run's end; at most FLYTE_TIMEOUT count."),
]


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
    version: str | None = Field(description="The task's version")
    phase: ActionPhase | None = Field(description="Null until Flyte tells one")
    executed_by: Identity | None = Field(description="Whose run this is, if Flyte knows")
    started_at: datetime | None
    ended_at: datetime | None
    error: str | None = Field(description="Why it failed; lists do not say")
    url: str = Field(description="Where Flyte's console shows it")

    @classmethod
    def of(cls, root: Action | ActionDetails, flyte: Flyte) -> Self:
        """Read a run from its root action, in which Flyte keeps all of this."""
        run, metadata = root.id.run, root.metadata
        error = root.error_info.message if isinstance(root, ActionDetails) else ""
        return cls(
            name=run.name,
            project=run.project,
            domain=run.domain,
            task=metadata.task.id.name or None,
            version=metadata.task.id.version or None,
            phase=phase_of(root),
            executed_by=(
                Identity.of(metadata.executed_by) if metadata.HasField("executed_by") else None
            ),
            started_at=_time(root.status.start_time),
            ended_at=_time(root.status.end_time),
            error=error[:LONGEST_ERROR] or None,
            url=flyte.run_url(run.project, run.domain, run.name),
        )


class EndedRun(Run):
    """A run and its state, with its outputs if its end was waited for."""

    outputs: dict[str, Any] | None = Field(
        default=None,
        description="Only with `wait`, and of a run that has succeeded",
        examples=[{"o0": "Hello, Ada."}],
    )


class RunPage(BaseModel):
    """Some of the runs that were asked for, newest first."""

    runs: list[Run]
    next_token: str | None = Field(description="Gets the next page, if there is one")


class Abort(BaseModel):
    """Why a run is aborted."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(default="Aborted in the app", max_length=1000)


class RunData(BaseModel):
    """What went into a run and what came out, by name. Outputs are called o0, o1, ..."""

    inputs: dict[str, Any] = Field(examples=[{"name": "Ada"}])
    outputs: dict[str, Any] | None = Field(
        description="Only of a run that succeeded", examples=[{"o0": "Hello, Ada."}]
    )


def _time(at: Timestamp) -> datetime | None:
    try:
        return at.ToDatetime(UTC) if at.seconds else None
    except ValueError:  # before the year 1 or after 9999
        return None


class _Cursor(NamedTuple):
    """A place in the list of runs: behind this run.

    Flyte's own token is the number of runs before the page, which is wrong as soon as there is a
    new run, or one leaves the list for another phase.
    """

    started: int
    """When it was started, in seconds since 1970."""
    name: str

    @classmethod
    def read(cls, token: str) -> Self:
        with suppress(ValueError):
            text = base64.urlsafe_b64decode(token).decode()
            if match := re.fullmatch(r"(\d{1,10})\.([-a-z0-9]{1,63})", text):
                return cls(int(match[1]), match[2])
        wrong = {"loc": ("query", "token"), "msg": "is not a token that a page came with"}
        raise RequestValidationError([wrong])

    @classmethod
    def behind(cls, run: Action) -> Self:
        return cls(run.status.start_time.seconds, run.id.run.name)

    def token(self) -> str:
        return base64.urlsafe_b64encode(f"{self.started}.{self.name}".encode()).decode()


@router.get("/runs", summary="List runs", responses=documented(422))
async def list_runs(
    flyte: FlyteDep,
    within: ProjectDomainDep,
    task: Annotated[str | None, Query(description="Only runs of this task (full name).")] = None,
    phase: Annotated[
        list[ActionPhase] | None,
        Query(max_length=len(ActionPhase), description="Only runs in these."),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 20,
    token: Annotated[str | None, Query(max_length=200, description="From the page before.")] = None,
) -> RunPage:
    """List the runs that the caller may see, newest first."""
    filters = []
    if task:
        filters.append(Filter(function=Filter.EQUAL, field="task_name", values=[task]))
    if phase:
        phases = [str(each.to_protobuf_value()) for each in phase]
        filters.append(Filter(function=Filter.VALUE_IN, field="phase", values=phases))
    behind = _Cursor.read(token) if token else None
    if behind and behind.started:
        # What Flyte takes for the start may change by a second once the run has begun.
        latest = datetime.fromtimestamp(behind.started + 2, UTC).isoformat()
        function = Filter.LESS_THAN_OR_EQUAL
        filters.append(Filter(function=function, field="created_at", values=[latest]))
    request = ListRunsRequest(
        org=within.org,
        project_id=within.project_id,
        request=ListRequest(
            # One more tells whether there is another page; the others make up for those seen.
            limit=min(limit + (10 if behind else 1), MOST_AT_ONCE),
            sort_by=Sort(key="created_at", direction=Sort.DESCENDING),
            filters=filters,
        ),
    )
    found: list[Action] = []
    for _ in range(MOST_CALLS):
        page = await flyte.runs.list_runs(request)
        for run in page.runs:
            here = _Cursor.behind(run.action)
            if behind is None:
                found.append(run.action)
            elif here.name == behind.name:
                # What the page before has shown of this second is in front of it.
                found = [old for old in found if old.status.start_time.seconds < behind.started]
                behind = None
            # It may have left the list. Flyte sorts the runs of a second by name.
            elif here.started and (-here.started, here.name) > (-behind.started, behind.name):
                found.append(run.action)
        if len(found) > limit or not page.token:
            break
        request.request.limit = MOST_AT_ONCE
        request.request.token = page.token
    else:
        raise HTTPException(503, "too many runs began within the same seconds")
    return RunPage(
        runs=[Run.of(root, flyte) for root in found[:limit]],
        next_token=_Cursor.behind(found[limit - 1]).token() if len(found) > limit else None,
    )


@router.get("/runs/{name}", summary="Get a run", responses=documented(404, 422))
async def get_run(flyte: FlyteDep, action_id: RunIdDep, wait: WaitQuery = 0) -> EndedRun:
    """Return a run's state, and the error if it failed."""
    if wait:
        return await fetch_ended(flyte, action_id, wait)
    return EndedRun.of(await flyte.get_action(action_id), flyte)


@router.get(
    "/runs/{name}/io", summary="Get a run's inputs and outputs", responses=documented(404, 413)
)
async def get_run_io(flyte: FlyteDep, run: RunDep) -> RunData:
    """Return what went in, and what came out once the run has succeeded.

    Values that JSON has no form for (files, pickles and the like) are shown as references.
    """
    data = await _fetch_data(flyte, run.id)
    succeeded = phase_of(run) in SUCCESSES
    return RunData(
        inputs=to_json(data.inputs.literals),
        outputs=to_json(data.outputs.literals) if succeeded else None,
    )


@router.post(
    "/runs/{name}/abort", status_code=202, summary="Abort a run", responses=documented(404, 409)
)
async def abort_run(
    flyte: FlyteDep, run: RunDep, abort: Annotated[Abort | None, Body()] = None
) -> Run:
    """Ask Flyte to stop a run. Whether the caller may is for Flyte to say."""
    # Flyte would mark it as aborted and no longer show its outputs.
    if has_ended(run) or has_succeeded(run):
        raise HTTPException(409, f"the run {run.id.run.name!r} has ended already")
    await flyte.runs.abort_run(AbortRunRequest(run_id=run.id.run, reason=(abort or Abort()).reason))
    return Run.of(await flyte.get_action(run.id), flyte)


async def fetch_ended(flyte: Flyte, action_id: ActionIdentifier, seconds: float) -> EndedRun:
    """Fetch a run when it has ended, with its outputs, or as it is when the time has passed.

    If there are outputs but they can't be had, `get_run_io` says why.
    """
    root: ActionDetails | None = None
    with suppress(TimeoutError):
        async with (
            asyncio.timeout(min(seconds, flyte.timeout)),
            aclosing(states(flyte, action_id)) as found,
        ):
            async for state in found:
                root = state or root
    if root is None:  # not even that was told in the time given
        root = await flyte.get_action(action_id)
    run = EndedRun.of(root, flyte)
    if run.phase in SUCCESSES:
        with suppress(HTTPException, *FLYTE_ERRORS):
            run.outputs = to_json((await _fetch_data(flyte, action_id)).outputs.literals)
    return run


async def _fetch_data(flyte: Flyte, action_id: ActionIdentifier) -> GetActionDataResponse:
    try:
        return await flyte.get_action_data(action_id)
    except ConnectError as error:
        if error.code is Code.INTERNAL and re.search("exceed|too large|limit", error.message):
            raise HTTPException(413, "Flyte hands out inputs and outputs of up to 2 MiB") from None
        raise

"""Who the caller is, in Flyte's eyes, and what Flyte lets them do."""

import asyncio
import secrets
from collections.abc import Awaitable

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from fastapi import APIRouter
from flyteidl2.common.list_pb2 import ListRequest
from flyteidl2.task.task_service_pb2 import ListTasksRequest
from flyteidl2.workflow.run_service_pb2 import AbortRunRequest
from pydantic import BaseModel, Field

from ..dependencies import Caller, CallerDep, FlyteDep, ProjectDomainDep
from ..problems import documented

router = APIRouter(tags=["me"])


class Rights(BaseModel):
    """What Flyte lets the caller do in a project and domain."""

    project: str
    domain: str
    view: bool = Field(description="Whether they may see tasks and runs")
    run: bool = Field(description="Whether they may start and abort runs")


@router.get("/me", summary="Who am I?")
async def me(caller: CallerDep) -> Caller:
    """Return the person whose credentials came with the request."""
    return caller


@router.get("/me/rights", summary="What may I do?", responses=documented(404))
async def my_rights(flyte: FlyteDep, within: ProjectDomainDep) -> Rights:
    """Return what the caller may do in a project and domain.

    Flyte has no call for that, so two calls are made that change nothing: to list a task, and to
    abort a run with a random name. A Flyte without roles lets everyone do everything.
    """
    page = ListRequest(limit=1)
    view = ListTasksRequest(org=within.org, project_id=within.project_id, request=page)
    nothing = AbortRunRequest(run_id=within.run_id(f"r{secrets.token_hex(12)}"), reason="No run")
    may_view, may_run = await asyncio.gather(
        _is_allowed(flyte.tasks.list_tasks(view)),
        _is_allowed(flyte.runs.abort_run(nothing), Code.NOT_FOUND),
    )
    return Rights(project=within.project, domain=within.domain, view=may_view, run=may_run)


async def _is_allowed(call: Awaitable[object], expected: Code | None = None) -> bool:
    try:
        await call
    except ConnectError as error:
        if error.code not in {Code.PERMISSION_DENIED, expected}:
            raise
        return error.code is expected
    return True

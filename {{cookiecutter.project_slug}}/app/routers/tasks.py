"""The tasks the caller may run, and running them."""

import asyncio
import logging
import os
import secrets
from contextlib import suppress
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from fastapi import APIRouter, Depends, HTTPException, Path, Query, Response
from fastapi.exceptions import RequestValidationError
from flyteidl2.common.identifier_pb2 import ActionIdentifier, RunIdentifier
from flyteidl2.common.list_pb2 import Filter, ListRequest, Sort
from flyteidl2.core.literals_pb2 import KeyValuePair
from flyteidl2.dataproxy.dataproxy_service_pb2 import UploadInputsRequest
from flyteidl2.project.project_service_pb2 import GetProjectRequest
from flyteidl2.task.common_pb2 import Inputs
from flyteidl2.task.run_pb2 import (
    CACHE_LOOKUP_SCOPE_GLOBAL,
    Annotations,
    CacheConfig,
    Envs,
    Labels,
    RunSpec,
)
from flyteidl2.task.task_definition_pb2 import TaskDetails, TaskIdentifier
from flyteidl2.task.task_service_pb2 import GetTaskDetailsRequest, ListTasksRequest
from flyteidl2.workflow.run_definition_pb2 import Action
from flyteidl2.workflow.run_service_pb2 import (
    CreateRunRequest,
    GetRunDetailsRequest,
)
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from ..dependencies import FlyteDep, ProjectDomain, ProjectDomainDep
from ..flyte_client import ROOT_ACTION, Flyte
from ..literals import InvalidInputs, inputs_schema, outputs_schema, to_literals
from ..problems import FLYTE_ERRORS, documented
from .runs import EndedRun, WaitQuery, fetch_ended

router = APIRouter(tags=["tasks"])

EXAMPLE = "{{ cookiecutter.project_slug }}-tasks.greet"
MOST_MEMBERS = 20  # of the body of a request
MARK = "started-by-request"
"""The label of a run whose name was given: it tells the request that started the run."""
LINKS = {
    operation: {
        "operationId": operation,
        "parameters": {name: f"$response.body#/{name}" for name in ("name", "project", "domain")},
    }
    for operation in ("get_run", "get_run_io", "run_events", "run_logs", "abort_run")
}
"""What can be done with the run that is answered: for clients that follow OpenAPI's links."""
RUN_NAME = "^[a-z]([-a-z0-9]*[a-z0-9])?$"


class TaskSummary(BaseModel):
    """A Flyte task, in its latest version."""

    name: str = Field(examples=[EXAMPLE])
    version: str
    description: str


class TaskPage(BaseModel):
    """Some of the tasks that were asked for."""

    tasks: list[TaskSummary]
    next_token: str | None = Field(description="Gets the next page, if there is one")


class Task(TaskSummary):
    """A version of a Flyte task, what it takes and what it returns."""

    inputs: dict[str, Any] = Field(description="JSON Schema of an object that holds the inputs")
    outputs: dict[str, Any] = Field(description="JSON Schema of an object that holds the outputs")


class NewRun(BaseModel):
    """What to run a task with."""

    model_config = ConfigDict(extra="forbid")

    inputs: dict[str, Any] = Field(default={}, examples=[{"name": "Ada"}])
    name: str | None = Field(
        default=None,
        pattern=RUN_NAME,
        max_length=30,
        description="Give one to be able to repeat the request safely: a name is used only once.",
    )

    @model_validator(mode="before")
    @classmethod
    def _has_few_members(cls, values: Any) -> Any:
        """Refuse many at once: an error for each of 90,000 would take seconds to word."""
        if isinstance(values, dict) and len(values) > MOST_MEMBERS:
            raise PydanticCustomError("too_many", "has too many members")
        return values


async def _task(
    flyte: FlyteDep,
    within: ProjectDomainDep,
    name: Annotated[str, Path(description="The task's full name.", examples=[EXAMPLE])],
    version: Annotated[str | None, Query(description="Default: the latest.")] = None,
) -> TaskDetails:
    if version is None:
        listed = await flyte.tasks.list_tasks(
            ListTasksRequest(
                org=within.org,
                project_id=within.project_id,
                request=ListRequest(
                    limit=1,
                    sort_by=Sort(key="created_at", direction=Sort.DESCENDING),
                    filters=[Filter(function=Filter.EQUAL, field="name", values=[name])],
                ),
            )
        )
        if not listed.tasks:
            raise HTTPException(
                404, f"there is no task {name!r} in {within.project}/{within.domain}"
            )
        version = listed.tasks[0].task_id.version
    task_id = TaskIdentifier(
        org=within.org, project=within.project, domain=within.domain, name=name, version=version
    )
    return (await flyte.tasks.get_task_details(GetTaskDetailsRequest(task_id=task_id))).details


TaskDep = Annotated[TaskDetails, Depends(_task)]
"""The task named in the path, fetched as the caller."""


@router.get("/tasks", summary="List tasks", responses=documented(422))
async def list_tasks(
    flyte: FlyteDep,
    within: ProjectDomainDep,
    search: Annotated[str | None, Query(description="A part of the name.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 100,
    token: Annotated[str | None, Query(max_length=100, description="From the page before.")] = None,
) -> TaskPage:
    """List the deployed tasks that the caller may see, each in its latest version."""
    contains = Filter.CONTAINS_CASE_INSENSITIVE
    filters = [Filter(function=contains, field="name", values=[search])] if search else []
    found = await flyte.tasks.list_tasks(
        ListTasksRequest(
            org=within.org,
            project_id=within.project_id,
            request=ListRequest(
                limit=limit,
                token=token,
                sort_by=Sort(key="created_at", direction=Sort.ASCENDING),
                filters=filters,
            ),
        )
    )
    return TaskPage(
        tasks=[
            TaskSummary(
                name=task.task_id.name,
                version=task.task_id.version,
                description=task.metadata.short_description,
            )
            for task in found.tasks
        ],
        next_token=(found.token or None) if len(found.tasks) == limit else None,
    )


@router.get("/tasks/{name}", summary="Get a task", responses=documented(404, 422))
async def get_task(task: TaskDep) -> Task:
    """Return a task, and the schemas of what it takes and returns."""
    spec = task.spec
    return Task(
        name=task.task_id.name,
        version=task.task_id.version,
        description=spec.documentation.short_description,
        inputs=inputs_schema(spec.task_template.interface, spec.default_inputs),
        outputs=outputs_schema(spec.task_template.interface),
    )


@router.post(
    "/tasks/{name}/runs",
    status_code=201,
    summary="Run a task",
    responses={**documented(404, 409, 422), 201: {"links": LINKS}},
)
async def run_task(
    flyte: FlyteDep,
    within: ProjectDomainDep,
    task: TaskDep,
    new: NewRun,
    response: Response,
    wait: WaitQuery = 0,
) -> EndedRun:
    """Start a run of a task. It belongs to the caller."""
    spec = task.spec
    try:
        inputs = to_literals(new.inputs, spec.task_template.interface, spec.default_inputs)
    except InvalidInputs as error:
        raise RequestValidationError(
            [{"loc": ("body", "inputs", *at), "msg": what} for at, what in error.errors]
        ) from None
    if new.name:
        await _check_unused(flyte, within, new.name)
    # Named here rather than by Flyte: a call that gets no answer is made again, and only a name
    # keeps the second from starting a second run.
    run_id = within.run_id(new.name or f"r{secrets.token_hex(9)}")
    root = await _start(flyte, run_id, task.task_id, inputs, is_named=new.name is not None)
    run = EndedRun.of(root, flyte)
    if wait:
        # That it was started must be told anyway, and before the time for the request is over.
        with suppress(HTTPException, *FLYTE_ERRORS):
            async with asyncio.timeout(1.5 * flyte.timeout):
                run = await fetch_ended(flyte, root.id, wait)
    response.headers["Location"] = (
        f"/runs/{quote(run.name, safe='')}?{urlencode({'project': run.project, 'domain': run.domain})}"
    )
    return run


async def _check_unused(flyte: Flyte, within: ProjectDomain, name: str) -> None:
    """Refuse the name of a run that exists, in whichever domain of the project.

    Flyte would return a run of the same domain, and perhaps run it again; beside one of another
    domain the new one would stay queued for ever.
    """
    request = GetProjectRequest(id=within.project, org=within.org)
    known = (await flyte.projects.get_project(request)).project.domains
    for domain in dict.fromkeys([within.domain, *(each.id for each in known)]):
        run_id = ProjectDomain(within.org, within.project, domain).run_id(name)
        action_id = ActionIdentifier(run=run_id, name=ROOT_ACTION)
        try:
            await flyte.get_action(action_id)
        except ConnectError as error:
            is_hidden = error.code is Code.PERMISSION_DENIED and domain != within.domain
            if error.code is not Code.NOT_FOUND and not is_hidden:
                raise
        else:
            raise _in_use(run_id)


def _in_use(run_id: RunIdentifier) -> HTTPException:
    place = f"{run_id.project}/{run_id.domain}"
    return HTTPException(409, f"there is a run named {run_id.name!r} in {place} already")


async def _start(
    flyte: Flyte, run_id: RunIdentifier, task_id: TaskIdentifier, inputs: Inputs, is_named: bool
) -> Action:
    """Create a run by the same calls as the SDK's ``flyte.run``.

    A name that is not random may have been taken by somebody else since it was looked for. Flyte
    then returns theirs as if it had been created, so the run is marked, and looked at once more.
    """
    uploaded = await flyte.upload_inputs(
        UploadInputsRequest(run_id=run_id, task_id=task_id, inputs=inputs)
    )
    spec, mark = _run_spec(), secrets.token_hex(16)
    if is_named:
        spec.labels.values[MARK] = mark
    created = await flyte.runs.create_run(
        CreateRunRequest(
            run_id=run_id,
            task_id=task_id,
            offloaded_input_data=uploaded.offloaded_input_data,
            run_spec=spec,
        )
    )
    if is_named:
        run = (await flyte.runs.get_run_details(GetRunDetailsRequest(run_id=run_id))).details
        # Older versions of the open-source Flyte do not tell how a run was started.
        if run.HasField("run_spec") and run.run_spec.labels.values.get(MARK) != mark:
            raise _in_use(run_id)
    return created.run.action


def _run_spec() -> RunSpec:
    """Say how to run a task, as the SDK does where nothing else is asked for."""
    variables = {
        "LOG_LEVEL": str(logging.getLogger("flyte").getEffectiveLevel()),
        "LOG_FORMAT": "console",
        "USER_LOG_LEVEL": str(logging.getLogger("flyte.user").getEffectiveLevel()),
    }
    for name in ("_F_USE_RUST_CONTROLLER", "_U_USE_ACTIONS"):
        if name in os.environ:
            variables[name] = os.environ[name]
    return RunSpec(
        labels=Labels(),
        annotations=Annotations(),
        envs=Envs(values=[KeyValuePair(key=key, value=value) for key, value in variables.items()]),
        cache_config=CacheConfig(cache_lookup_scope=CACHE_LOOKUP_SCOPE_GLOBAL),
    )

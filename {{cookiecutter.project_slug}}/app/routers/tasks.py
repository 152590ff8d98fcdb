"""Tasks that the caller may see, and runs of tasks."""

from typing import Annotated, Any

import flyte
from fastapi import APIRouter, Query, Request, Response
from flyte import remote
from pydantic import BaseModel, Field

from passthrough import (
    Inputs,
    RequestBody,
    TaskDep,
    TruncatedText,
    WaitQuery,
    location,
    schema_of,
    take,
    wait_for,
)

from ..models import RunWithResult

router = APIRouter(tags=["tasks"])


class TaskSummary(BaseModel):
    """The latest version of a Flyte task."""

    name: TruncatedText = Field(
        examples=["{{ cookiecutter.project_slug }}-tasks.greet"],
        description="Full name of the task",
    )
    version: TruncatedText = Field(description="Version of the task")
    description: TruncatedText = Field(description="Description by the task's author")


class Task(TaskSummary):
    """A version of a Flyte task, with the schema of the inputs."""

    inputs: dict[str, Any] = Field(description="JSON Schema of an object with the inputs of a run")


class NewRun(RequestBody):
    """The inputs of a new run."""

    inputs: Inputs = Field(
        default={},
        examples=[{"name": "Ada"}],
        description="Inputs of the task by name; `GET /tasks/{name}` returns the schema",
    )


@router.get("/tasks", summary="List tasks")
async def list_tasks(
    environment: Annotated[str | None, Query(description="Name of a task environment")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Maximum number of tasks")] = 200,
) -> list[TaskSummary]:
    """List the latest versions of the deployed tasks that the caller may see."""
    tasks = await take(remote.Task.listall.aio(by_task_env=environment, limit=limit), limit)
    return [
        TaskSummary(
            name=task.name, version=task.version, description=task.pb2.metadata.short_description
        )
        for task in tasks
    ]


# This route must precede `/tasks/{name:path}`, which also matches `/tasks/…/runs`. Otherwise the
# response to this POST would be 405.
@router.post("/tasks/{name:path}/runs", status_code=201, summary="Run a task")
async def run_task(
    task: TaskDep, new: NewRun, request: Request, response: Response, wait: WaitQuery = 0
) -> RunWithResult:
    """Start a run of a task as the caller. `GET /tasks/{name}` returns the schema of the inputs.

    With `wait`, the response comes when the run has ended or the time has passed. The response has
    the outputs if the run has succeeded.
    """
    run = await flyte.run.aio(task, **new.inputs)
    await wait_for(run, wait)
    result = await RunWithResult.after(run, with_outputs=wait > 0)
    at = location(request, "runs", result.name, project=result.project, domain=result.domain)
    response.headers["Location"] = at
    return result


@router.get("/tasks/{name:path}", summary="Get a task")
async def get_task(task: TaskDep) -> Task:
    """Return a task with the JSON Schema of the inputs."""
    details = await task.fetch.aio()
    return Task(
        name=details.name,
        version=details.version,
        description=details.pb2.spec.documentation.short_description,
        inputs=await schema_of(details),
    )

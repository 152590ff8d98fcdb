"""The tasks the caller may run, and running them."""

import inspect
import secrets
from typing import Annotated, Any

import flyte
from fastapi import APIRouter, Depends, Path, Query, Response
from fastapi.exceptions import RequestValidationError
from flyte import remote
from flyte.models import NativeInterface
from pydantic import BaseModel, Field, PydanticUserError, TypeAdapter, ValidationError

from ..dependencies import ScopeDep
from ..problems import documented
from .runs import Run

router = APIRouter(tags=["tasks"])

LazyTask = Any  # what remote.Task.get returns; the SDK does not export its type

EXAMPLE = "{{ cookiecutter.project_slug }}-tasks.greet"
TaskName = Annotated[str, Path(description="Its full name.", examples=[EXAMPLE])]


class Task(BaseModel):
    """A version of a Flyte task."""

    name: str = Field(examples=[EXAMPLE])
    version: str


class TaskDetails(Task):
    """A version of a Flyte task and what it takes."""

    description: str
    inputs: dict[str, Any] = Field(description="JSON Schema of an object that holds the inputs")


class NewRun(BaseModel):
    """What to run a task with."""

    inputs: dict[str, Any] = Field(default={}, examples=[{"name": "Ada"}])
    name: str | None = Field(
        default=None,
        pattern="^[a-z][a-z0-9-]{0,61}[a-z0-9]$",
        description="Give one to be able to repeat the request safely: a name is used only once.",
    )


def _fetch_as_caller(name: TaskName, scope: ScopeDep) -> LazyTask:
    # The SDK keeps what it fetched on the object this returns. An object that outlived the request
    # would serve the first caller's task to everyone after, with no question asked of Flyte.
    return remote.Task.get(name, project=scope.project, domain=scope.domain, auto_version="latest")


TaskDep = Annotated[LazyTask, Depends(_fetch_as_caller)]
"""The latest version of the task named in the path; what it is, is fetched as the caller."""


@router.get("/tasks", summary="List tasks")
async def list_tasks(
    scope: ScopeDep, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> list[Task]:
    """List the deployed tasks that the caller may see, each in its latest version."""
    found = remote.Task.listall.aio(project=scope.project, domain=scope.domain, limit=limit)
    return [Task(name=task.name, version=task.version) async for task in found]


@router.get("/tasks/{name}", summary="Get a task", responses=documented(404))
async def get_task(task: TaskDep) -> TaskDetails:
    """Return the latest version of a task, and the schema of the inputs it takes."""
    details = await task.fetch.aio()
    return TaskDetails(
        name=details.name,
        version=details.version,
        description=details.pb2.spec.documentation.short_description,
        inputs=details.interface.json_schema,
    )


@router.post(
    "/tasks/{name}/runs", status_code=201, summary="Run a task", responses=documented(404, 409, 422)
)
async def run_task(task: TaskDep, scope: ScopeDep, new: NewRun, response: Response) -> Run:
    """Start a run of the latest version of a task. It belongs to the caller."""
    inputs = python_inputs((await task.fetch.aio()).interface, new.inputs)
    # Named here rather than by Flyte: the SDK repeats a call that got no answer, and only a name
    # keeps the second from starting a second run.
    name = new.name or f"r{secrets.token_hex(9)}"
    runner = flyte.with_runcontext("remote", name=name, project=scope.project, domain=scope.domain)
    run = Run.of((await runner.run.aio(task, **inputs)).pb2.action)
    response.headers["Location"] = f"/runs/{run.name}?project={run.project}&domain={run.domain}"
    return run


def python_inputs(interface: NativeInterface, inputs: dict[str, Any]) -> dict[str, Any]:
    """Turn JSON inputs into what the task's signature asks for.

    Args:
        interface: The task's, whose ``inputs`` maps names to type and default.
        inputs: As JSON gives them: names to values.

    Raises:
        RequestValidationError: Naming every input that is unknown, missing or of the wrong type.
    """
    values: dict[str, Any] = {}
    errors: list[dict[str, Any]] = []
    for name in inputs.keys() - interface.inputs.keys():
        errors.append({"loc": ("body", "inputs", name), "msg": "The task has no such input"})
    for name, (kind, default) in interface.inputs.items():
        if name not in inputs:
            if default is inspect.Parameter.empty:
                errors.append({"loc": ("body", "inputs", name), "msg": "Field required"})
            continue
        try:
            values[name] = TypeAdapter(kind).validate_python(inputs[name])
        except ValidationError as error:
            errors += [
                {"loc": ("body", "inputs", name, *e["loc"]), "msg": e["msg"]}
                for e in error.errors(include_input=False)
            ]
        except PydanticUserError:
            errors.append({"loc": ("body", "inputs", name), "msg": f"JSON cannot express {kind}"})
    if errors:
        raise RequestValidationError(errors)
    return values

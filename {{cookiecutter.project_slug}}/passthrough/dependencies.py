"""Dependencies, types for query parameters, and a base class for request bodies."""

import re
from datetime import UTC, datetime
from inspect import signature
from itertools import islice
from typing import Annotated, Any

import flyte
from fastapi import Depends, HTTPException, Path, Query
from flyte import remote
from flyteidl2.workflow.run_definition_pb2 import Run
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    Field,
    model_validator,
)
from starlette.requests import HTTPConnection

from .calls.json_values import translated
from .calls.request_state import this_request
from .extras.reading import state_of
from .http.callers import find_caller
from .http.problems import MAX_ERRORS
from .models import Caller
from .values.schemas import inputs_schema

RunName = Annotated[str, Path(description="Name of the run", examples=["r4f7d1c02"])]


async def _subject(
    connection: HTTPConnection,
    subject: Annotated[
        str | None,
        Query(min_length=1, description="List only entries of the user with this subject"),
    ] = None,
    mine: Annotated[bool, Query(description="Whether to list only entries of the caller")] = False,
) -> str | None:
    if not mine:
        return subject
    caller = (await find_caller(connection)).subject
    if not caller or subject not in {None, caller}:
        raise HTTPException(422, "Flyte does not know you, or `subject` is another user")
    return caller


async def _run(name: RunName) -> remote.Run:
    details = await remote.RunDetails.get.aio(name=name)
    run = remote.Run(Run(action=state_of(details.action_details).pb2))
    this_request().release_messages()
    return run


async def _action(name: RunName, action: str = "a0") -> remote.Action:
    state = state_of(await remote.ActionDetails.get.aio(run_name=name, name=action))
    this_request().release_messages()
    return state


async def _task(
    name: Annotated[str, Path(description="Full name of the task", examples=["app.greet"])],
    version: Annotated[
        str | None, Query(min_length=1, description="Version of the task; default: the latest")
    ] = None,
) -> Any:
    return remote.Task.get(name, version=version, auto_version=None if version else "latest")


CallerDep = Annotated[Caller, Depends(find_caller)]
"""The caller of the request.

To learn the caller, the app calls Flyte, and Flyte checks the credentials. Therefore this
dependency protects even an endpoint that does not call Flyte.

Raises:
    ConnectError: Flyte refuses the credentials; the response has the status 401.

Example:
    @router.get("/hello")
    async def hello(caller: CallerDep) -> str:
        return f"Hello, {caller.name or caller.subject}."
"""
SubjectDep = Annotated[str | None, Depends(_subject)]
"""Subject (Flyte's identifier of a user) by which an endpoint filters a list.

With ``?mine=true``, the value is the caller's subject. With ``?subject=…``, the value is the given
subject. If the query has neither ``mine`` nor ``subject``, the value is None.

Raises:
    HTTPException: The query has both ``mine`` and the ``subject`` of another user, or the query has
        ``mine`` and Flyte does not know the caller. The response has the status 422.

Example:
    @router.get("/my-runs")
    async def my_runs(subject: SubjectDep) -> list[str]:
        runs = remote.Run.listall.aio(created_by_subject=subject)
        return [run.name for run in await take(runs, 10)]
"""
RunDep = Annotated[remote.Run, Depends(_run)]
"""The run whose name is the parameter ``name`` of the path.

The object has the state of the run but no details, because details may be large.

Raises:
    ConnectError: Flyte has no such run (404), or the caller may not see it (403).

Example:
    @router.get("/runs/{name}/phase")
    async def read_phase(run: RunDep) -> str:
        return run.phase.value
"""
ActionDep = Annotated[remote.Action, Depends(_action)]
"""The action that the parameter ``action`` of the path or the query names.

The default is the root action. The object has the state of the action but no details, because
details may be large.

Raises:
    ConnectError: Flyte has no such action (404), or the caller may not see it (403).

Example:
    @router.get("/runs/{name}/done")
    async def is_done(action: ActionDep) -> bool:
        return action.done()
"""
TaskDep = Annotated[Any, Depends(_task)]
"""The task that the path parameter ``name`` names.

The parameter ``version`` of the query selects a version of the task. The default is the latest
version. The dependency does not fetch the task. ``flyte.run`` fetches the task, and
``await task.fetch.aio()`` returns the details. If Flyte has no such task, ``flyte.run`` and
``task.fetch`` raise an error, and the response has the status 404.

Example:
    @router.get("/tasks/{name}/version")
    async def latest_version(task: TaskDep) -> str:
        details = await task.fetch.aio()
        return details.version
"""

NOT_INPUTS = {"self", "obj", "task", "custom_context", *signature(flyte.rerun).parameters}
NOT_INPUTS -= {"inputs"}  # flyte.rerun has ``**inputs``, so an input may have this name


def _are_inputs(values: dict[str, Any]) -> dict[str, Any]:
    if names := NOT_INPUTS & values.keys():
        raise ValueError(f"{min(names)} is the name of an argument of flyte.run or flyte.rerun")
    return values


Inputs = Annotated[dict[str, Any], AfterValidator(_are_inputs)]
"""Inputs of a task by name, as keyword arguments for ``flyte.run`` or ``flyte.rerun``.

The app responds with 422 if the name of an input is also an argument of ``flyte.run`` or
``flyte.rerun``, or if the value of an input does not fit the declared type.

Example:
    @router.post("/greetings")
    async def greet(inputs: Annotated[Inputs, Body()]) -> str:
        task = remote.Task.get("tests.greet", auto_version="latest")
        run = await flyte.run.aio(task, **inputs)
        return run.name
"""


def _require_date_time(value: Any) -> Any:
    """Refuse a number or a date, because Pydantic would convert both to a date-time."""
    if isinstance(value, str) and not re.match(r"\d{4}-\d\d-\d\d[Tt ]", value):
        raise ValueError("must be a date-time with a time zone, such as 2026-01-31T09:30:00Z")
    return value


QueryTime = Annotated[
    AwareDatetime,
    BeforeValidator(_require_date_time),
    Field(ge=datetime(1970, 1, 1, tzinfo=UTC), lt=datetime(9999, 1, 1, tzinfo=UTC)),
]
"""A date-time with a time zone, for query parameters.

The app responds with 422 to a number, to a date without a time, and to a date-time before 1970 or
after 9998.

Example:
    @router.get("/recent")
    async def recent(after: QueryTime = datetime(2026, 1, 1, tzinfo=UTC)) -> list[str]:
        runs = remote.Run.listall.aio(created_at=remote.TimeFilter(after=after))
        return [run.name for run in await take(runs, 10)]
"""
WaitQuery = Annotated[
    float,
    Query(
        ge=0,
        description="Maximum time in seconds to wait for the end of the run. The app limits this"
        " time to `FLYTE_TIMEOUT`, and does not wait if the request body is above 128 kB.",
    ),
]
"""Query parameter: the maximum time, in seconds, that the endpoint waits with `wait_for`.

Example:
    @router.get("/runs/{name}/wait")
    async def wait(run: RunDep, wait: WaitQuery = 30) -> bool:
        await wait_for(run, wait)
        return run.done()
"""


def deadline(seconds: float) -> Any:
    """Return a dependency that sets the deadline of an endpoint (default: twice ``FLYTE_TIMEOUT``).

    If the response does not begin before the deadline, the app cancels the endpoint and the calls
    to Flyte, and responds with 504. A single call to Flyte may take at most half of ``seconds``.

    Args:
        seconds: The time until the deadline. The time starts when FastAPI has read a JSON body and
            calls the dependency.

    Returns:
        The dependency, for the ``dependencies`` of a route.

    Example:
        @router.post("/reports", dependencies=[deadline(300)])
        async def make_report() -> str:
            task = remote.Task.get("tests.greet", auto_version="latest")
            run = await flyte.run.aio(task, name="Ada")
            return run.name
    """

    async def replace_deadline() -> None:
        this_request().deadline.replace(seconds)

    return Depends(replace_deadline)


class RequestBody(BaseModel, extra="forbid"):
    """Base class for request bodies, which are JSON objects.

    If a body has an unknown key, the response has the status 422.

    Example:
        class Greeting(RequestBody):
            name: str

        @router.post("/greet-by-name")
        async def greet_by_name(greeting: Greeting) -> str:
            return f"Hello, {greeting.name}."
    """

    @model_validator(mode="before")
    @classmethod
    def _with_few_errors(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        # For a body of 1 MB with unknown keys, Pydantic would create errors for two seconds.
        return dict(islice(body.items(), len(cls.model_fields) + MAX_ERRORS))


async def schema_of(task: remote.TaskDetails) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of an object that contains the inputs of a task.

    Args:
        task: The details of the task, from ``task.fetch.aio()``.

    Returns:
        The schema. If JSON cannot represent the type of an input, the schema of this input allows
        no value (``not: {}``), and its description has the reason.

    Example:
        @router.get("/tasks/{name}/schema")
        async def read_schema(task: TaskDep) -> dict[str, Any]:
            return await schema_of(await task.fetch.aio())
    """
    spec = task.pb2.spec
    interface, defaults = spec.task_template.interface, spec.default_inputs
    return await translated(lambda budget: inputs_schema(interface, defaults, budget))

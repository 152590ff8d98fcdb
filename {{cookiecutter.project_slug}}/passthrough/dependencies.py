"""What endpoints take: dependencies, types of queries, and bodies."""

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
from .http.problems import MOST_ERRORS
from .models import Caller
from .values.schemas import inputs_schema

RunName = Annotated[str, Path(description="The run's name.", examples=["r4f7d1c02"])]


async def _subject(
    connection: HTTPConnection,
    subject: Annotated[str | None, Query(min_length=1, description="Only this subject's.")] = None,
    mine: Annotated[bool, Query(description="Only the caller's.")] = False,
) -> str | None:
    if not mine:
        return subject
    caller = (await find_caller(connection)).subject
    if not caller or subject not in {None, caller}:
        raise HTTPException(422, "Flyte does not know who you are, or `subject` is somebody else")
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
    name: Annotated[str, Path(description="The task's full name.", examples=["app.greet"])],
    version: Annotated[str | None, Query(min_length=1, description="Default: the latest.")] = None,
) -> Any:
    return remote.Task.get(name, version=version, auto_version=None if version else "latest")


CallerDep = Annotated[Caller, Depends(find_caller)]
"""The caller: for endpoints without other calls to Flyte. Flyte refuses invalid credentials."""
SubjectDep = Annotated[str | None, Depends(_subject)]
"""Whose things to list: the query's ``subject``, with ``mine`` the caller; None means everybody."""
RunDep = Annotated[remote.Run, Depends(_run)]
"""The run with the name in the path, as the caller may see it, without its details: those may be
large, and a request may last for minutes."""
ActionDep = Annotated[remote.Action, Depends(_action)]
"""The action in the path, else in the query, else the root action, in the same way."""
TaskDep = Annotated[Any, Depends(_task)]
"""The task with the name in the path, not fetched yet: ``flyte.run`` does that, and
``await task.fetch.aio()`` returns its details."""

NOT_INPUTS = {"self", "obj", "task", "custom_context", *signature(flyte.rerun).parameters}
NOT_INPUTS -= {"inputs"}  # the parameter ``**inputs`` of flyte.rerun


def _are_inputs(values: dict[str, Any]) -> dict[str, Any]:
    if taken := NOT_INPUTS & values.keys():
        raise ValueError(f"{min(taken)} is the name of an argument of flyte.run or flyte.rerun")
    return values


Inputs = Annotated[dict[str, Any], AfterValidator(_are_inputs)]
"""Inputs of a task by name, to pass on to ``flyte.run`` or ``flyte.rerun`` as keywords."""


def _reject_number(value: Any) -> Any:
    """Reject what Pydantic would read as seconds since 1970."""
    if isinstance(value, str) and not re.match(r"\d{4}-\d\d-\d\d[Tt ]", value):
        raise ValueError("must be a date-time with a time zone, such as 2026-01-31T09:30:00Z")
    return value


QueryTime = Annotated[
    AwareDatetime,
    BeforeValidator(_reject_number),
    Field(ge=datetime(1970, 1, 1, tzinfo=UTC), lt=datetime(9999, 1, 1, tzinfo=UTC)),
]
"""A time in a query, which the SDK can convert to UTC."""
WaitQuery = Annotated[
    float,
    Query(ge=0, description="Seconds to wait for the run's end; at most FLYTE_TIMEOUT count."),
]


class RequestBody(BaseModel, extra="forbid"):
    """A JSON object with no other keys than its fields."""

    @model_validator(mode="before")
    @classmethod
    def _with_few_errors(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        # Pydantic makes an error for each unknown key: a megabyte of them takes 2 s.
        return dict(islice(body.items(), len(cls.model_fields) + MOST_ERRORS))


async def schema_of(task: remote.TaskDetails) -> dict[str, Any]:
    """Return the JSON Schema of an object with a task's inputs."""
    spec = task.pb2.spec
    interface, defaults = spec.task_template.interface, spec.default_inputs
    return await translated(lambda budget: inputs_schema(interface, defaults, budget))

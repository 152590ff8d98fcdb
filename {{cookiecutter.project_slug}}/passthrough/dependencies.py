"""Dependencies for endpoints: the caller, the run in the path, and values from SDK objects."""

import asyncio
import math
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from inspect import signature
from itertools import islice
from typing import Annotated, Any, Self

import flyte
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from fastapi import Depends, HTTPException, Path, Query
from flyte import remote
from flyte.models import ActionPhase
from flyteidl2.workflow.run_definition_pb2 import ActionDetails
from pydantic import (
    AfterValidator,
    AliasPath,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from starlette.requests import HTTPConnection

from .calls.caller import act_in, initialised
from .calls.errors import FLYTE_ERRORS
from .calls.request_calls import request_calls
from .limits import MAX_ERRORS, MAX_NAMES, MAX_TEXT_CHARS
from .requests.stopping import stopping
from .values import inputs_schema


# Other names than in the query: FastAPI would confuse them with {project} and {domain} in a path.
async def _project_and_domain(
    in_project: Annotated[
        str | None, Query(alias="project", description="Default: the app's project.")
    ] = None,
    in_domain: Annotated[
        str | None, Query(alias="domain", description="Default: the app's domain.")
    ] = None,
) -> None:
    if in_project or in_domain:
        act_in(initialised(), in_project, in_domain)


ProjectDomain = Depends(_project_and_domain)
"""Makes a router's endpoints call Flyte in the project and domain given in the request."""


class Caller(BaseModel):
    """A person, or an application with its own identity, according to Flyte."""

    subject: str | None = Field(
        default=None,
        description="Flyte's identifier of the caller; null if Flyte does not know who it is",
        examples=["00u1alice"],
    )
    name: str | None = Field(default=None, examples=["Alice Liddell"])
    email: str | None = Field(default=None, examples=["alice@example.com"])
    anonymous: bool = Field(
        description="Whether every caller is anonymous, because Flyte is called in plaintext"
    )
    sign_in: str | None = Field(description="Where to sign in as somebody else, if the app knows")


async def find_caller(connection: HTTPConnection) -> Caller:
    """Ask Flyte who the caller is; it refuses invalid credentials."""
    settings = connection.app.settings
    known = {"anonymous": settings.flyte_plaintext, "sign_in": settings.sign_in_url}
    if settings.flyte_plaintext:
        return Caller(**known)
    try:
        user = (await remote.User.get.aio()).pb2
    except ConnectError as error:
        if error.code is not Code.UNAUTHENTICATED:
            raise
        # Either the credentials are invalid, or the proxy that checked them (in front of an
        # open-source Flyte) did not pass on their owner. In that case other calls succeed.
        async for _ in remote.Project.listall.aio():
            break
        return Caller(**known)
    request_calls().subject = user.subject
    return Caller(
        subject=user.subject or None, name=user.name or None, email=user.email or None, **known
    )


CallerDep = Annotated[Caller, Depends(find_caller)]
"""The caller, from a call to Flyte, which refuses invalid credentials.

For endpoints without other calls to Flyte: the middleware only sees that there are credentials.
"""


async def _run(
    name: Annotated[str, Path(description="The run's name.", examples=["r4f7d1c02"])],
) -> remote.Run:
    return await remote.Run.get.aio(name)


RunDep = Annotated[remote.Run, Depends(_run)]
"""The run with the name in the path, fetched as the caller."""


async def _action(
    name: Annotated[str, Path(description="The run's name.")],
    action: Annotated[str, StringConstraints(min_length=1, max_length=30)] = "a0",
) -> remote.Action:
    return await remote.Action.get.aio(run_name=name, name=action)


ActionDep = Annotated[remote.Action, Depends(_action)]
"""An action of the run in the path, fetched as the caller.

It is the one named ``action`` in the path, else in the query; by default the root action.
"""


async def _task(
    name: Annotated[str, Path(description="The task's full name.", examples=["app.greet"])],
    version: Annotated[str | None, Query(min_length=1, description="Default: the latest.")] = None,
) -> remote.TaskDetails:
    task = remote.Task.get(name, version=version, auto_version=None if version else "latest")
    return await task.fetch.aio()


TaskDep = Annotated[remote.TaskDetails, Depends(_task)]
"""The task with the name in the path, fetched as the caller."""

NOT_INPUTS = {"self", "obj", "task", *signature(flyte.rerun).parameters} - {"inputs"}


def _are_inputs(values: dict[str, Any]) -> dict[str, Any]:
    if taken := NOT_INPUTS & values.keys():
        raise ValueError(f"{min(taken)} is the name of an argument of flyte.run or flyte.rerun")
    return values


Inputs = Annotated[dict[str, Any], Field(max_length=MAX_NAMES), AfterValidator(_are_inputs)]
"""Inputs of a task by name, to pass on to ``flyte.run`` or ``flyte.rerun`` as keywords."""


class RequestBody(BaseModel):
    """A JSON object with no other keys than its fields.

    Of many other keys only some are told: Pydantic makes an error for each, and blocks the event
    loop while it does.
    """

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _with_few_errors(cls, body: Any) -> Any:
        most = len(cls.model_fields) + MAX_ERRORS
        return dict(islice(body.items(), most)) if isinstance(body, dict) else body


def _in_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("in UTC it is before the year 1 or after 9999") from None


async def _subject(
    connection: HTTPConnection,
    subject: Annotated[
        str | None, Query(min_length=1, description="Only what this subject has started.")
    ] = None,
    mine: Annotated[bool, Query(description="Only what the caller has started.")] = False,
) -> str | None:
    if not mine:
        return subject
    caller = (await find_caller(connection)).subject
    if not caller or subject not in {None, caller}:
        raise HTTPException(422, "Flyte does not know who you are, or `subject` is somebody else")
    return caller


SubjectDep = Annotated[str | None, Depends(_subject)]
"""Flyte's identifier of the person in the query, who may be the caller; None for everybody."""

Time = Annotated[AwareDatetime, BeforeValidator(datetime.fromisoformat), AfterValidator(_in_utc)]
"""A time in a query, in OpenAPI's format only: Pydantic would also accept numbers."""

WaitQuery = Annotated[
    float,
    Query(ge=0, description="Seconds to wait for the run's end; at most FLYTE_TIMEOUT count."),
]


async def wait_for(run: remote.Run, seconds: float) -> None:
    """Wait for a run's end, but not longer than this; update ``run`` to the latest state.

    Flyte's errors are ignored: the caller must learn in any case that the run was started.
    """
    async with in_time(seconds):
        async for _ in run.watch():
            pass


@asynccontextmanager
async def in_time(seconds: float = math.inf) -> AsyncGenerator[None]:
    """Leave the block after this time, early enough to answer, or when Flyte fails.

    The block also ends when the server is asked to stop.
    """
    calls = request_calls()
    limit = asyncio.timeout(min(seconds, calls.timeout, 0.9 * calls.time_left()))
    with suppress(*FLYTE_ERRORS):
        async with limit:
            stopping.ends(limit)
            yield


def schema_of(task: remote.TaskDetails) -> dict[str, Any]:
    """Return the JSON Schema of an object with a task's inputs."""
    spec = task.pb2.spec
    return inputs_schema(spec.task_template.interface, spec.default_inputs)


class Identity(BaseModel):
    """Who did something: a person, or an application with its own identity."""

    subject: str = Field(examples=["00u1alice"])
    name: str = Field(examples=["Alice Liddell"])

    @classmethod
    def of(cls, identity: Any) -> Self | None:
        """Convert an identity of Flyte's, such as ``executed_by``; None if there is none."""
        kind = identity.WhichOneof("principal")
        if kind not in ("application", "user"):
            return None
        found = getattr(identity, kind)
        spec = found.spec
        name = spec.name if kind == "application" else f"{spec.first_name} {spec.last_name}"
        return cls(subject=found.id.subject, name=name.strip())


async def first(found: Any, count: int, skip: int = 0) -> list[Any]:
    """Return this many entries of one of the SDK's lists; pages that are not needed stay unread."""
    taken: list[Any] = []
    async for each in found:
        taken.append(each)
        if len(taken) == skip + count:
            break
    return taken[skip:]


async def details_of(actions: Iterable[Any]) -> list[remote.ActionDetails]:
    """Fetch the details of listed actions side by side; some may have only what the list has."""

    async def details(action: Any) -> remote.ActionDetails:
        try:
            return await remote.ActionDetails.get_details.aio(action.pb2.id)
        except ConnectError as error:
            if error.code is not Code.NOT_FOUND:  # as of a child that has just been enqueued
                raise
            listed = {field.name: value for field, value in action.pb2.ListFields()}
            return remote.ActionDetails(ActionDetails(**listed))

    return await asyncio.gather(*map(details, actions))


def phase_of(raw: int) -> ActionPhase | None:
    """Return a phase; None if it is missing, or unknown to this version of the SDK."""
    with suppress(ValueError):
        return ActionPhase.from_protobuf(raw)
    return None


def time_of(timestamp: Any) -> datetime | None:
    """Return a time; None if it is missing, before the year 1 or after 9999."""
    with suppress(ValueError):
        return timestamp.ToDatetime(UTC) if timestamp.seconds else None
    return None


# The types of a model's fields that are read from objects of the SDK.
Phase = Annotated[ActionPhase | None, BeforeValidator(phase_of)]
Moment = Annotated[datetime | None, BeforeValidator(time_of)]
Who = Annotated[Identity | None, BeforeValidator(Identity.of)]
Text = Annotated[str | None, BeforeValidator(lambda text: text[:MAX_TEXT_CHARS] or None)]


class Shown(BaseModel):
    """A model of an object of the SDK: each field is read where `at` says, else by its name."""

    model_config = ConfigDict(from_attributes=True)

    @classmethod
    def of(cls, found: Any) -> Self:
        """Convert an object of the SDK."""
        return cls.model_validate(found)


def at(path: str, description: str | None = None, **more: Any) -> Any:
    """Declare a field by its path, such as ``pb2.action.status``, from an object of the SDK."""
    return Field(validation_alias=AliasPath(*path.split(".")), description=description, **more)

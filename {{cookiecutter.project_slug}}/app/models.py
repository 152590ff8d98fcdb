"""The models of the runs API."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote, urlencode

from flyte import remote
from flyte.models import ActionPhase
from pydantic import BaseModel, BeforeValidator, Field

from passthrough.calls.runs import attempts_of
from passthrough.dependencies import (
    Inputs,
    Moment,
    Phase,
    RequestBody,
    Shown,
    Text,
    Who,
    at,
    in_time,
    time_of,
)
from passthrough.values import to_json

HAS_OUTPUTS = {ActionPhase.SUCCEEDED, ActionPhase.RECOVERED}


class Run(Shown):
    """A run and its state."""

    name: str = Field(examples=["r4f7d1c02"])
    project: str = at("pb2.action.id.run.project")
    domain: str = at("pb2.action.id.run.domain")
    task: Text = at("pb2.action.metadata.task.id.name", "The task's full name")
    version: Text = at("pb2.action.metadata.task.id.version", "The task's version")
    phase: Phase = at("action.raw_phase", "Null until Flyte returns one")
    attempts: int = at("pb2.action.status.attempts", "The number of attempts so far")
    executed_by: Who = at("pb2.action.metadata.executed_by", "Who started it, if Flyte knows")
    started_at: Moment = at("pb2.action.status.start_time")
    ended_at: Moment = at("pb2.action.status.end_time")
    url: str = Field(description="The run's page in Flyte's console")

    @property
    def location(self) -> str:
        """The path of the run in this API."""
        query = urlencode({"project": self.project, "domain": self.domain})
        return f"/runs/{quote(self.name, safe='')}?{query}"


class RunWithResult(Run):
    """A run and its state, with its result once it has ended."""

    error: str | None = Field(default=None, description="Why it failed")
    outputs: dict[str, Any] | None = Field(
        default=None,
        description="Only with `wait`, and only if the run has succeeded",
        examples=[{"o0": "Hello, Ada."}],
    )

    @classmethod
    async def after(cls, run: remote.Run, waited: float) -> Self:
        """Convert a run of the SDK, and fetch its result.

        If there are outputs but they can't be fetched, ``GET /runs/{name}/io`` returns the reason.
        """
        shown, error, outputs = Run.of(run), None, None
        async with in_time():
            if shown.phase in {ActionPhase.FAILED, ActionPhase.TIMED_OUT}:
                details = await remote.ActionDetails.get_details.aio(run.action.action_id)
                error = Action.of(details).error
            elif waited and shown.phase in HAS_OUTPUTS:
                outputs = (await run.outputs.aio()).named_outputs
        return cls.model_construct(**dict(shown), error=error, outputs=outputs)


class RunData(BaseModel):
    """A run's inputs and outputs, by name. Outputs without a name are called o0, o1, ..."""

    inputs: dict[str, Any] = Field(examples=[{"name": "Ada"}])
    outputs: dict[str, Any] | None = Field(
        description="Only if the run succeeded", examples=[{"o0": "Hello, Ada."}]
    )


class Rerun(RequestBody):
    """What to change when running a run again."""

    inputs: Inputs = Field(default={}, description="Those to change", examples=[{"name": "Ada"}])
    recover: bool = Field(
        default=False, strict=True, description="Whether to take over what has succeeded"
    )


class Abort(RequestBody):
    """Why a run is aborted."""

    reason: str = Field(default="Aborted in the app", max_length=1000)


class Action(Shown):
    """A part of a run, from its details: listings lack the names of tasks."""

    name: str = Field(examples=["a0"])
    type: Annotated[
        Literal["task", "trace", "condition"] | None,
        BeforeValidator(lambda metadata: metadata.WhichOneof("spec")),
    ] = at("metadata")
    title: Annotated[
        str | None,
        BeforeValidator(lambda m: m.task.short_name or m.trace.name or m.condition.name or None),
    ] = at("metadata", "The short name of its task, trace or condition")
    task: str | None = at("task_name", "The task's full name")
    parent: str | None = at("parent_name", "The action that started it; null for the root")
    group: Text = at("metadata.group")
    phase: Phase = at("raw_phase")
    attempts: Annotated[int, BeforeValidator(attempts_of)] = at("pb2")
    started_at: Moment = at("status.start_time")
    ended_at: Moment = at("status.end_time")
    error: Text = at("error_message", "Why it failed")


def if_answered(read: Callable[[Any], Any]) -> BeforeValidator:
    """Read a field of a condition that it has once it is answered."""
    return BeforeValidator(lambda pb2: read(pb2) if pb2.HasField("signal_info") else None)


def answer_of(pb2: Any) -> Any:
    """Return the answer to a condition; None if it is no boolean, number or text."""
    value = to_json([("", pb2.signal_info.output)])[""]
    return value if isinstance(value, bool | int | float | str) else None


class Condition(Shown):
    """What a run asks people, from the details of its action, and the answer."""

    run: str = at("run_name")
    action: str = at("name", "The name of its action")
    name: str = at("pb2.condition.name")
    prompt: str = at("pb2.condition.prompt", "Other people's text: never show it as HTML")
    prompt_type: Annotated[
        Literal["text", "markdown"],
        BeforeValidator(lambda kind: "markdown" if kind == 2 else "text"),
    ] = at("pb2.condition.prompt_type")
    description: Text = at("pb2.condition.description")
    type: Annotated[
        Literal["integer", "number", "string", "boolean"] | None,
        BeforeValidator({1: "integer", 2: "number", 3: "string", 4: "boolean"}.get),
    ] = at("pb2.condition.type.simple")
    phase: Phase = at("raw_phase")
    asked_at: Moment = at("status.start_time")
    answered_at: Annotated[
        datetime | None, if_answered(lambda action: time_of(action.status.end_time))
    ] = at("pb2")
    answered_by: Who = at("pb2.signal_info.signalled_by", "Null also if Flyte does not know")
    value: Annotated[bool | int | float | str | None, if_answered(answer_of)] = at("pb2")

"""The models of the runs API. ``passthrough/models.py`` has those of actions and conditions."""

from datetime import datetime
from typing import Any, Self

from flyte import remote
from flyte.models import ActionPhase
from pydantic import BaseModel, Field

from passthrough import (
    FAILED,
    HAS_OUTPUTS,
    Action,
    Identity,
    Inputs,
    RequestBody,
    TruncatedText,
    best_effort,
    fetch_data,
    fetch_details,
    phase_of,
    time_of,
)


class Run(BaseModel):
    """A run and its state."""

    name: TruncatedText = Field(examples=["r4f7d1c02"])
    project: TruncatedText
    domain: TruncatedText
    task: TruncatedText | None = Field(description="The task's full name")
    version: TruncatedText | None = Field(description="The task's version")
    phase: ActionPhase | None = Field(description="Null until Flyte returns one")
    attempts: int = Field(description="The number of attempts so far")
    executed_by: Identity | None = Field(description="Who started it, if Flyte knows")
    started_at: datetime | None
    ended_at: datetime | None
    url: TruncatedText = Field(description="The run's page in Flyte's console")

    @classmethod
    def of(cls, run: remote.Run, **more: Any) -> Self:
        """Convert a run of the SDK; ``more`` is for fields of a subclass."""
        action = run.pb2.action
        return cls(
            name=run.name,
            project=action.id.run.project,
            domain=action.id.run.domain,
            task=action.metadata.task.id.name or None,
            version=action.metadata.task.id.version or None,
            phase=phase_of(action.status.phase),
            attempts=action.status.attempts,
            executed_by=Identity.of(action.metadata.executed_by),
            started_at=time_of(action.status.start_time),
            ended_at=time_of(action.status.end_time),
            url=run.url,
            **more,
        )


class RunWithResult(Run):
    """A run and its state, with its result once it has ended."""

    error: TruncatedText | None = Field(description="Why it failed")
    abort_reason: TruncatedText | None = Field(description="Why it was aborted")
    outputs: dict[str, Any] | None = Field(
        description="Only with `wait`, and only if the run has succeeded",
        examples=[{"o0": "Hello, Ada."}],
    )

    @classmethod
    async def after(cls, run: remote.Run, *, with_outputs: bool) -> Self:
        """Convert a run of the SDK, and fetch its result.

        If there are outputs but they can't be fetched, ``GET /runs/{name}/io`` returns the reason.
        """
        phase, error, abort_reason, outputs = phase_of(run.raw_phase), None, None, None
        async with best_effort():
            if phase in FAILED or phase == ActionPhase.ABORTED:
                (action,) = await fetch_details([run.action], Action.of)
                error, abort_reason = action.error, action.abort_reason
            elif with_outputs and phase in HAS_OUTPUTS:
                _, outputs = await fetch_data(run)
        return cls.of(run, error=error, abort_reason=abort_reason, outputs=outputs)


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

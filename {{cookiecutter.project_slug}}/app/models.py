"""Models of runs. The models of actions and conditions are in ``passthrough/models.py``."""

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
    """The state of a run."""

    name: TruncatedText = Field(examples=["r4f7d1c02"], description="Name of the run")
    project: TruncatedText = Field(description="Identifier of the run's project")
    domain: TruncatedText = Field(description="Identifier of the run's domain")
    task: TruncatedText | None = Field(description="Full name of the task")
    version: TruncatedText | None = Field(description="Version of the task")
    phase: ActionPhase | None = Field(description="Phase of the run; null if it is unknown")
    attempts: int = Field(description="Number of attempts so far")
    executed_by: Identity | None = Field(description="User or application that started the run")
    started_at: datetime | None = Field(description="Time when the run started")
    ended_at: datetime | None = Field(description="End of the run; null if it has not ended")
    url: TruncatedText = Field(description="URL of the run in Flyte's console")

    @classmethod
    def of(cls, run: remote.Run, **more: Any) -> Self:
        """Convert an SDK run. ``more`` contains the fields that a subclass adds."""
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
    """The state of a run, with the result if the run has ended."""

    error: TruncatedText | None = Field(description="Error message, if the run has failed")
    abort_reason: TruncatedText | None = Field(description="Reason why a caller aborted the run")
    outputs: dict[str, Any] | None = Field(
        description="Outputs by name, if the run has succeeded and the request had `wait`",
        examples=[{"o0": "Hello, Ada."}],
    )

    @classmethod
    async def after(cls, run: remote.Run, *, with_outputs: bool) -> Self:
        """Convert an SDK run, and fetch the error or outputs of an ended run.

        If Flyte fails to return the error or outputs, these fields are None.
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
    """Inputs and outputs of a run, by name. Outputs without a name are called o0, o1, ..."""

    inputs: dict[str, Any] = Field(examples=[{"name": "Ada"}], description="Inputs by name")
    outputs: dict[str, Any] | None = Field(
        description="Outputs by name; null unless the run has succeeded",
        examples=[{"o0": "Hello, Ada."}],
    )


class Rerun(RequestBody):
    """Options of a rerun."""

    inputs: Inputs = Field(
        default={}, description="Inputs to change, by name", examples=[{"name": "Ada"}]
    )
    recover: bool = Field(
        default=False, strict=True, description="Whether to reuse results of succeeded actions"
    )


class Abort(RequestBody):
    """Options of an abort."""

    reason: str = Field(
        default="Aborted in the app", max_length=1000, description="Reason to record in the run"
    )

"""The models of the runs API."""

from datetime import datetime
from typing import Any, Self
from urllib.parse import quote, urlencode

from flyte import remote
from flyte.models import ActionPhase
from pydantic import BaseModel, ConfigDict, Field

from passthrough.dependencies import Identity, Inputs, in_time, phase_of, time_of

LINKS = {
    operation: {
        "operationId": operation,
        "parameters": {name: f"$response.body#/{name}" for name in ("name", "project", "domain")},
    }
    for operation in ("get_run", "get_run_io", "run_events", "run_logs", "abort_run", "rerun")
}
"""Operations on the run in a response, for clients that follow OpenAPI links.

Links to operations that the app does not have are left out of its OpenAPI document.
"""


class Run(BaseModel):
    """A run and its state."""

    name: str = Field(examples=["r4f7d1c02"])
    project: str
    domain: str
    task: str | None = Field(description="The task's full name")
    version: str | None = Field(description="The task's version")
    phase: ActionPhase | None = Field(description="Null until Flyte returns one")
    attempts: int = Field(description="The number of attempts so far")
    executed_by: Identity | None = Field(description="Who started the run, if Flyte knows")
    started_at: datetime | None
    ended_at: datetime | None
    url: str = Field(description="The run's page in Flyte's console")

    @classmethod
    def of(cls, run: remote.Run, **more: Any) -> Self:
        """Convert a run of the SDK."""
        root = run.pb2.action
        return cls(
            name=run.name,
            project=root.id.run.project,
            domain=root.id.run.domain,
            task=root.metadata.task.id.name or None,
            version=root.metadata.task.id.version or None,
            phase=phase_of(run.action),
            attempts=root.status.attempts,
            executed_by=Identity.of(root),
            started_at=time_of(root.status.start_time),
            ended_at=time_of(root.status.end_time),
            url=run.url,
            **more,
        )

    @property
    def location(self) -> str:
        """The path of the run in this API."""
        query = urlencode({"project": self.project, "domain": self.domain})
        return f"/runs/{quote(self.name, safe='')}?{query}"


class EndedRun(Run):
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
        error = outputs = None
        async with in_time():
            if phase_of(run.action) in {ActionPhase.FAILED, ActionPhase.TIMED_OUT}:
                details = await remote.ActionDetails.get_details.aio(run.action.action_id)
                error = details.error_info and details.error_info.message[:20_000]
            elif waited and run.phase in {ActionPhase.SUCCEEDED, ActionPhase.RECOVERED}:
                outputs = (await run.outputs.aio()).named_outputs
        return cls.of(run, error=error, outputs=outputs)


class RunData(BaseModel):
    """A run's inputs and outputs, by name. Outputs are called o0, o1, ..."""

    inputs: dict[str, Any] = Field(examples=[{"name": "Ada"}])
    outputs: dict[str, Any] | None = Field(
        description="Only if the run succeeded", examples=[{"o0": "Hello, Ada."}]
    )


class Rerun(BaseModel):
    """What to change when running a run again."""

    model_config = ConfigDict(extra="forbid")

    inputs: Inputs = Field(
        default={}, description="The inputs to change", examples=[{"name": "Ada"}]
    )


class Abort(BaseModel):
    """Why a run is aborted."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(default="Aborted in the app", max_length=1000)

"""Runs: list and show them, with their inputs and outputs; run them again; abort them."""

from typing import Annotated

import flyte
from fastapi import APIRouter, Body, HTTPException, Query, Response
from flyte import remote
from flyte.models import ActionPhase

from passthrough.dependencies import RunDep, Time, WaitQuery, wait_for
from passthrough.requests.problems import documented

from ..models import LINKS, Abort, EndedRun, Rerun, Run, RunData

router = APIRouter(tags=["runs"])


@router.get("/runs", summary="List runs")
async def list_runs(
    task: Annotated[str | None, Query(description="Only runs of this task (full name).")] = None,
    phase: Annotated[
        list[ActionPhase] | None, Query(description="Only runs in these phases.")
    ] = None,
    subject: Annotated[
        str | None,
        Query(description="Of the runs found, only those started by this subject."),
    ] = None,
    before: Annotated[Time | None, Query(description="Only runs started earlier.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 20,
) -> list[Run]:
    """List the runs that the caller may see, newest first.

    For older ones, pass the `started_at` of the last run as `before`. This may skip other runs that
    started at the same moment.
    """
    found = remote.Run.listall.aio(
        in_phase=2 * tuple(phase or ()),  # the SDK splits a single phase into its digits
        task_name=task,
        created_at=remote.TimeFilter(before=before),
        sort_by=("created_at", "desc"),
        limit=limit,
    )
    runs = [Run.of(run) async for run in found]
    if subject is None:
        return runs
    # Filtered here, since Flyte refuses the SDK's filter for it.
    return [run for run in runs if run.executed_by and run.executed_by.subject == subject]


@router.get("/runs/{name}", summary="Get a run", responses=documented(404))
async def get_run(run: RunDep, wait: WaitQuery = 0) -> EndedRun:
    """Return a run's state, and the error if it failed."""
    await wait_for(run, wait)
    return await EndedRun.after(run, wait)


@router.get(
    "/runs/{name}/io", summary="Get a run's inputs and outputs", responses=documented(404, 413)
)
async def get_run_io(run: RunDep) -> RunData:
    """Return the run's inputs, and its outputs once it has succeeded.

    Values that cannot be written as JSON, such as files and pickles, are shown as references.
    """
    inputs = await run.inputs.aio()
    succeeded = run.phase in {ActionPhase.SUCCEEDED, ActionPhase.RECOVERED}
    outputs = (await run.outputs.aio()).named_outputs if succeeded else None
    return RunData(inputs=dict(inputs), outputs=outputs)


@router.post(
    "/runs/{name}/rerun",
    status_code=201,
    summary="Run it again",
    responses={**documented(404, 422), 201: {"links": LINKS}},
)
async def rerun(
    name: str, response: Response, changed: Annotated[Rerun | None, Body()] = None
) -> Run:
    """Start a new run of the same task and version, with some inputs changed."""
    run = Run.of(await flyte.rerun.aio(name, **(changed or Rerun()).inputs))
    response.headers["Location"] = run.location
    return run


@router.post(
    "/runs/{name}/abort", status_code=202, summary="Abort a run", responses=documented(404, 409)
)
async def abort_run(run: RunDep, abort: Annotated[Abort | None, Body()] = None) -> Run:
    """Ask Flyte to abort a run. Flyte decides whether the caller may do that."""
    if run.done():  # Flyte would mark it as aborted and hide its outputs
        raise HTTPException(409, f"the run {run.name!r} has already ended")
    await run.abort.aio((abort or Abort()).reason)
    return Run.of(await remote.Run.get.aio(run.name))

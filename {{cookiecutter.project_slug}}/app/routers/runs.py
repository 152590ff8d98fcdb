"""Runs: list, show, repeat and abort them; their inputs, outputs, actions and reports."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

import flyte
from fastapi import APIRouter, Body, HTTPException, Query, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from flyte import remote
from flyte.models import ActionPhase

from passthrough import (
    NEWEST_FIRST,
    Action,
    ActionDep,
    QueryTime,
    RunDep,
    SubjectDep,
    WaitQuery,
    best_effort,
    fetch_data,
    fetch_details,
    fetch_paused_runs,
    fetch_report_url,
    listed_details,
    location,
    take,
    wait_for,
    watch_details,
)

from ..models import Abort, Rerun, Run, RunData, RunWithResult

router = APIRouter(tags=["runs"])


@router.get("/runs", summary="List runs")
async def list_runs(
    subject: SubjectDep,
    task: Annotated[str | None, Query(description="Only runs of this task (full name).")] = None,
    phase: Annotated[
        list[ActionPhase],
        Query(description="Only in these; `paused` alone: those that ask.", max_length=20),
    ] = [],  # noqa: B006
    after: Annotated[QueryTime | None, Query(description="Only runs started since.")] = None,
    before: Annotated[QueryTime | None, Query(description="Only runs started earlier.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 20,
) -> list[Run]:
    """List the runs that the caller may see, newest first.

    For older ones, pass the `started_at` of the last run as `before`. Other runs of that second may
    be skipped, and Flyte may move a start by a second, so that a run comes twice or not at all.
    """
    created_at = remote.TimeFilter(after=after, before=before)
    only = {"task_name": task, "created_by_subject": subject, "created_at": created_at}
    if set(phase) == {ActionPhase.PAUSED}:  # then only an action is paused, and the run is running
        found = fetch_paused_runs(**only)
    else:
        states, order = tuple(phase), NEWEST_FIRST
        found = remote.Run.listall.aio(in_phase=states, sort_by=order, limit=limit, **only)
    return [Run.of(run) for run in await take(found, limit)]


@router.get("/runs/{name}", summary="Get a run")
async def get_run(run: RunDep, wait: WaitQuery = 0) -> RunWithResult:
    """Return a run's state, and the error if it failed."""
    await wait_for(run, wait)
    return await RunWithResult.after(run, with_outputs=wait > 0)


@router.get("/runs/{name}/io", summary="Get a run's inputs and outputs")
async def get_run_io(run: RunDep) -> RunData:
    """Return the run's inputs, and its outputs once it has succeeded.

    Values that cannot be written as JSON, such as files and pickles, are shown as references.
    """
    inputs, outputs = await fetch_data(run)
    return RunData(inputs=inputs, outputs=outputs)


@router.post("/runs/{name}/rerun", status_code=201, summary="Run it again")
async def rerun(
    name: str,
    request: Request,
    response: Response,
    body: Annotated[Rerun | None, Body()] = None,
) -> Run:
    """Start a new run of the same task and version, with some inputs changed."""
    given = body or Rerun()
    run = Run.of(await flyte.rerun.aio(name, recover=given.recover, **given.inputs))
    at = location(request, "runs", run.name, project=run.project, domain=run.domain)
    response.headers["Location"] = at
    return run


@router.post("/runs/{name}/abort", status_code=202, summary="Abort a run")
async def abort_run(run: RunDep, abort: Annotated[Abort | None, Body()] = None) -> Run:
    """Ask Flyte to abort a run. Flyte decides whether the caller may do that."""
    if run.done():  # Flyte would mark it as aborted and hide its outputs
        raise HTTPException(409, f"the run {run.name!r} has already ended")
    await run.abort.aio((abort or Abort()).reason)
    async with best_effort():  # the caller must learn that it was aborted, even if this fails
        run = await remote.Run.get.aio(run.name)
    return Run.of(run)


@router.get("/runs/{name}/actions", summary="List a run's actions")
async def list_actions(
    run: RunDep,
    offset: Annotated[int, Query(ge=0, le=10_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=50)] = 50,
) -> list[Action]:
    """List the tasks, traces and conditions that the run consists of, oldest first."""
    listed = remote.Action.listall.aio(run.name)
    return await fetch_details(await take(listed, limit, offset), Action.of)


@router.get(
    "/runs/{name}/actions/events",
    summary="Watch a run's actions",
    response_class=EventSourceResponse,
)
async def watch_actions(run: RunDep) -> AsyncGenerator[ServerSentEvent]:
    """Send each action of the run as an `action` event, now and whenever it changes, until the end.

    Its data is what `GET /runs/{name}/actions` returns of it. What happens to an action that waits
    for the cluster comes every few seconds. A client that connects again gets all actions. If Flyte
    fails after the first event, the last one is a `problem`.
    """
    async with aclosing(watch_details(run, Action.of)) as actions:
        async for action in actions:
            yield ServerSentEvent(event="action", data=action)


@router.post("/runs/{name}/actions/{action}/abort", status_code=202, summary="Abort an action")
async def abort_action(action: ActionDep, abort: Annotated[Abort | None, Body()] = None) -> Action:
    """Ask Flyte to abort an action. Flyte decides whether the caller may do that."""
    if action.done():
        raise HTTPException(409, f"the action {action.name!r} has already ended")
    await action.abort.aio((abort or Abort()).reason)
    async with best_effort():  # the caller must learn that it was aborted, even if this fails
        return (await fetch_details([action], Action.of))[0]
    return Action.of(listed_details(action))


@router.get("/runs/{name}/report", response_class=RedirectResponse, status_code=303)
async def open_report(action: ActionDep) -> str:
    """Redirect to the page that a task with `report=True` has drawn.

    Flyte signs the address for the caller. Whoever knows it can open the report until it expires.
    """
    return await fetch_report_url(action)

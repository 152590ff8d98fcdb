"""Runs, with inputs, outputs, actions and reports."""

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

PHASES = "Phases of the runs; for runs with a waiting condition, `paused` must be the only phase"


@router.get("/runs", summary="List runs")
async def list_runs(
    subject: SubjectDep,
    task: Annotated[str | None, Query(description="Full name of a task")] = None,
    phase: Annotated[list[ActionPhase], Query(max_length=20, description=PHASES)] = [],  # noqa: B006
    after: Annotated[QueryTime | None, Query(description="Earliest start time of the runs")] = None,
    before: Annotated[
        QueryTime | None, Query(description="Time before which the runs started")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="Maximum number of runs")] = 20,
) -> list[Run]:
    """List the runs that the caller may see, newest first.

    For the next page, pass the `started_at` of the last run as `before`. A run that started in the
    same second may be skipped or listed twice.
    """
    created_at = remote.TimeFilter(after=after, before=before)
    only = {"task_name": task, "created_by_subject": subject, "created_at": created_at}
    if set(phase) == {ActionPhase.PAUSED}:  # a run with a paused action has the phase running
        runs = fetch_paused_runs(**only)
    else:
        states, order = tuple(phase), NEWEST_FIRST
        runs = remote.Run.listall.aio(in_phase=states, sort_by=order, limit=limit, **only)
    return [Run.of(run) for run in await take(runs, limit)]


@router.get("/runs/{name}", summary="Get a run")
async def get_run(run: RunDep, wait: WaitQuery = 0) -> RunWithResult:
    """Return the state of a run, and the error of a failed run.

    With `wait`, the response comes when the run has ended or the time has passed. The response has
    the outputs if the run has succeeded.
    """
    await wait_for(run, wait)
    return await RunWithResult.after(run, with_outputs=wait > 0)


@router.get("/runs/{name}/io", summary="Get a run's inputs and outputs")
async def get_run_io(run: RunDep) -> RunData:
    """Return the inputs of a run, and the outputs of a succeeded run.

    A value that JSON cannot hold, such as a file, is an object with `kind` and `uri`.
    """
    inputs, outputs = await fetch_data(run)
    return RunData(inputs=inputs, outputs=outputs)


@router.post("/runs/{name}/rerun", status_code=201, summary="Rerun a run")
async def rerun(
    name: str, request: Request, response: Response, body: Annotated[Rerun | None, Body()] = None
) -> Run:
    """Start a new run of the same task and version, as the caller.

    Inputs in the body replace inputs of the earlier run.
    """
    options = body or Rerun()
    run = Run.of(await flyte.rerun.aio(name, recover=options.recover, **options.inputs))
    at = location(request, "runs", run.name, project=run.project, domain=run.domain)
    response.headers["Location"] = at
    return run


@router.post("/runs/{name}/abort", status_code=202, summary="Abort a run")
async def abort_run(run: RunDep, abort: Annotated[Abort | None, Body()] = None) -> Run:
    """Abort a run as the caller. Flyte decides whether the caller may abort it."""
    if run.done():  # Flyte would mark an ended run as aborted, and hide the outputs
        raise HTTPException(409, f"the run {run.name!r} has already ended")
    await run.abort.aio((abort or Abort()).reason)
    async with best_effort():  # the run has been aborted, even if this call fails
        run = await remote.Run.get.aio(run.name)
    return Run.of(run)


@router.get("/runs/{name}/actions", summary="List a run's actions")
async def list_actions(
    run: RunDep,
    offset: Annotated[int, Query(ge=0, le=10_000, description="Number of actions to skip")] = 0,
    limit: Annotated[int, Query(ge=1, le=50, description="Maximum number of actions")] = 50,
) -> list[Action]:
    """List the actions of a run (tasks, traces and conditions), oldest first."""
    actions = remote.Action.listall.aio(run.name)
    return await fetch_details(await take(actions, limit, offset), Action.of)


@router.get(
    "/runs/{name}/actions/events",
    summary="Watch a run's actions",
    response_class=EventSourceResponse,
)
async def watch_actions(run: RunDep) -> AsyncGenerator[ServerSentEvent]:
    """Watch the actions of a run as server-sent events, until the run has ended.

    The app sends each action as an `action` event, at once and after each change, with the data
    that `GET /runs/{name}/actions` returns. If an action waits for the cluster, the app sends the
    action again every few seconds. A client that reconnects gets all actions. If Flyte fails after
    the first event, the last event is a `problem` event with the error (RFC 9457).
    """
    async with aclosing(watch_details(run, Action.of)) as actions:
        async for action in actions:
            yield ServerSentEvent(event="action", data=action)


@router.post("/runs/{name}/actions/{action}/abort", status_code=202, summary="Abort an action")
async def abort_action(action: ActionDep, abort: Annotated[Abort | None, Body()] = None) -> Action:
    """Abort an action of a run as the caller. Flyte decides whether the caller may abort it."""
    if action.done():
        raise HTTPException(409, f"the action {action.name!r} has already ended")
    await action.abort.aio((abort or Abort()).reason)
    async with best_effort():  # the action has been aborted, even if this call fails
        return (await fetch_details([action], Action.of))[0]
    return Action.of(listed_details(action))


@router.get(
    "/runs/{name}/report", summary="Open a report", response_class=RedirectResponse, status_code=303
)
async def open_report(action: ActionDep) -> str:
    """Redirect to the report (an HTML page) of a task with `report=True`.

    Flyte signs the URL for the caller. Anyone who has the URL can read the report until it expires.
    """
    return await fetch_report_url(action)

"""What a run consists of, and what its tasks have drawn."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Body, HTTPException, Query
from fastapi.responses import RedirectResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from flyte import remote

from passthrough import (
    Action,
    ActionDep,
    RunDep,
    RunStateDep,
    best_effort,
    details_of,
    report_address,
    take,
    watch_details,
)

from ..models import Abort

router = APIRouter(tags=["runs"])


@router.get("/runs/{name}/actions", summary="List a run's actions")
async def list_actions(
    run: RunDep,
    offset: Annotated[int, Query(ge=0, le=10_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=50)] = 50,
) -> list[Action]:
    """List the tasks, traces and conditions that the run consists of, oldest first."""
    actions = await take(remote.Action.listall.aio(run.name), limit, offset)
    return await details_of(actions, Action.of)


@router.get(
    "/runs/{name}/actions/events",
    summary="Watch a run's actions",
    response_class=EventSourceResponse,
)
async def watch_actions(run: RunStateDep) -> AsyncGenerator[ServerSentEvent]:
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
        action = await remote.Action.get.aio(run_name=action.run_name, name=action.name)
    return Action.of(await action.details())


@router.get("/runs/{name}/report", response_class=RedirectResponse, status_code=303)
async def open_report(action: ActionDep) -> str:
    """Redirect to the page that a task with `report=True` has drawn.

    Flyte signs the address for the caller. Whoever knows it can open the report until it expires.
    """
    return await report_address(action)

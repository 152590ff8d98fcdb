"""Conditions: what runs ask people. Whoever may run tasks may answer; Flyte records who did."""

import asyncio
from itertools import chain
from typing import Annotated

from fastapi import APIRouter, Body, HTTPException, Query
from flyte import remote
from flyte.models import ActionPhase
from pydantic import AllowInfNan, Field, StrictBool, StrictFloat, StrictInt, StrictStr

from passthrough.calls.runs import NEWEST_FIRST, conditions_of, paused_in
from passthrough.dependencies import ActionDep, RunDep, details_of, first, in_time

from ..models import Condition

router = APIRouter(tags=["conditions"])

RECORDED_WITHIN = 5.0  # seconds; Flyte records an answer a moment later
TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}
Answer = (
    StrictBool
    | Annotated[StrictInt, Field(ge=-(2**63), lt=2**63)]
    | Annotated[StrictFloat, AllowInfNan(False)]
    | Annotated[StrictStr, Field(max_length=100_000)]  # Kubernetes keeps it: at most 1 MiB or so
)
Limit = Annotated[int, Query(ge=1, le=100)]


@router.get("/conditions", summary="List what waits for an answer")
async def list_waiting(limit: Limit = 50) -> list[Condition]:
    """List what waits for an answer in the newest runs of the project that ask, newest first."""
    asking = remote.Run.listall.aio(paused_actions_only=True, sort_by=NEWEST_FIRST, limit=limit)
    lists = [first(paused_in(run.name), limit) async for run in asking if not run.done()]
    found = chain.from_iterable(await asyncio.gather(*lists))
    newest = sorted(found, key=lambda action: action.pb2.status.start_time.seconds, reverse=True)
    asked = map(Condition.of, await details_of(newest[:limit]))
    return [each for each in asked if each.name and each.phase is ActionPhase.PAUSED]


@router.get("/runs/{name}/conditions", summary="List a run's conditions")
async def list_conditions(
    run: RunDep, offset: Annotated[int, Query(ge=0, le=10_000)] = 0, limit: Limit = 100
) -> list[Condition]:
    """List what the run has asked so far, with the answers; what waits comes first."""
    found = await first(conditions_of(run.name), limit, offset)
    return [*map(Condition.of, await details_of(found))]


@router.post("/runs/{name}/conditions/{action}", summary="Answer a condition")
async def answer_condition(
    run: RunDep, action: ActionDep, value: Annotated[Answer, Body(embed=True)]
) -> Condition:
    """Answer as the caller, and return the condition as Flyte has recorded it.

    If Flyte takes long to record it, `phase` and `answered_by` are as before.
    """
    details = await action.details()
    if not details.pb2.HasField("condition"):
        raise HTTPException(404, f"the action {action.name!r} is not a condition")
    asked = Condition.of(details)
    if asked.type == "number" and type(value) is int:
        value = float(value)
    if TYPES[type(value)] != asked.type:
        kind = f"type {asked.type}" if asked.type else "a type that this app does not know"
        raise HTTPException(422, f"the answer to {asked.name!r} must be of {kind}")
    if asked.value is None:
        is_over = run.done() or action.done()
        if not is_over:
            await remote.Condition(action.pb2).signal.aio(value)
        async with in_time(RECORDED_WITHIN):  # it may have been answered, even if this fails
            while asked.value is None and asked.phase is ActionPhase.PAUSED:
                await asyncio.sleep(0.25)
                asked = Condition.of(await remote.ActionDetails.get_details.aio(action.action_id))
        if asked.value is None and is_over:
            raise HTTPException(409, f"{asked.name!r} has timed out, or its run has ended")
        asked.value = value if asked.value is None else asked.value
    if asked.value != value:
        raise HTTPException(409, f"{asked.name!r} has been answered otherwise")
    return asked

"""Conditions: what runs ask people. Whoever may run tasks may answer; Flyte records who did."""

from typing import Annotated

from fastapi import APIRouter, Body, HTTPException, Query, Response
from flyte import remote
from flyte.models import ActionPhase
from pydantic import AllowInfNan, Field, StrictBool, StrictFloat, StrictInt, StrictStr

from passthrough import (
    Condition,
    RunDep,
    answer_of,
    best_effort,
    fetch_condition,
    fetch_conditions,
    fetch_details,
    fetch_paused_actions,
    is_answered,
    state_of,
    wait_for_answer,
)

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
    """List what waits for an answer in the project, newest first.

    If there is more, those who started the runs take turns. `GET /runs?phase=paused` lists all runs
    that ask, and `GET /runs/{name}/conditions` all that one of them asks.
    """
    waiting = await fetch_paused_actions(limit)
    asked = await fetch_details(waiting, Condition.of)
    return [each for each in asked if each.name and each.phase is ActionPhase.PAUSED]


@router.get("/runs/{name}/conditions", summary="List a run's conditions")
async def list_conditions(
    run: RunDep, offset: Annotated[int, Query(ge=0, le=10_000)] = 0, limit: Limit = 100
) -> list[Condition]:
    """List what the run has asked so far, with the answers; what waits comes first."""
    return await fetch_details(await fetch_conditions(run.name, limit, offset), Condition.of)


@router.post(
    "/runs/{name}/conditions/{action}",
    summary="Answer a condition",
    responses={202: {"model": Condition, "description": "Sent, but not yet recorded"}},
)
async def answer_condition(
    run: RunDep,
    action: str,
    value: Annotated[Answer, Body(embed=True)],
    response: Response,
) -> Condition:
    """Answer as the caller, and return the condition as Flyte has recorded it.

    If Flyte takes long to record the answer, the status is 202, and the condition is as before.
    """
    details = await fetch_condition(run.name, action)
    if not details.pb2.HasField("condition"):
        raise HTTPException(404, f"the action {action!r} is not a condition")
    asked = Condition.of(details)
    if asked.type == "number" and type(value) is int:
        value = float(value)
    if TYPES[type(value)] != asked.type:
        kind = f"type {asked.type}" if asked.type else "a type that this app does not know"
        raise HTTPException(422, f"the answer to {asked.name!r} must be of {kind}")

    is_over = run.done() or details.done()
    if not is_over and not is_answered(details):
        await remote.Condition(state_of(details).pb2).signal.aio(value)
    async with best_effort(RECORDED_WITHIN):  # it may have been answered, even if this fails
        details = await wait_for_answer(details)
    if is_answered(details):
        recorded = answer_of(details)
        if (type(recorded), recorded) != (type(value), value):  # 1 is not true
            raise HTTPException(409, f"{asked.name!r} has been answered otherwise")
    elif is_over or details.done():
        raise HTTPException(409, f"{asked.name!r} has timed out, or its run has ended")
    else:
        response.status_code = 202
    return Condition.of(details)

"""Conditions, which are questions of runs. A caller who may run tasks may answer conditions."""

from typing import Annotated

from fastapi import APIRouter, Body, HTTPException, Path, Query, Response
from flyte import remote
from flyte.models import ActionPhase
from pydantic import AllowInfNan, Field, StrictBool, StrictFloat, StrictInt, StrictStr

from passthrough import (
    ANSWER_TYPES,
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

# Maximum wait, in seconds, for Flyte to record an answer.
RECORDED_WITHIN = 5.0
Answer = (
    StrictBool
    | Annotated[StrictInt, Field(ge=-(2**63), lt=2**63)]
    | Annotated[StrictFloat, AllowInfNan(False)]
    | Annotated[StrictStr, Field(max_length=100_000)]  # Kubernetes stores at most 1 MiB
)
Limit = Annotated[int, Query(ge=1, le=100, description="Maximum number of conditions")]
Offset = Annotated[int, Query(ge=0, le=10_000, description="Number of conditions to skip")]
ActionName = Annotated[str, Path(description="Name of the condition's action")]


@router.get("/conditions", summary="List paused conditions")
async def list_waiting(limit: Limit = 50) -> list[Condition]:
    """List the conditions (questions) in the project that wait for an answer, newest first.

    `GET /runs?phase=paused` lists all runs with waiting conditions.
    """
    actions = await fetch_paused_actions(limit)
    conditions = await fetch_details(actions, Condition.of)
    return [one for one in conditions if one.name and one.phase is ActionPhase.PAUSED]


@router.get("/runs/{name}/conditions", summary="List a run's conditions")
async def list_conditions(run: RunDep, offset: Offset = 0, limit: Limit = 100) -> list[Condition]:
    """List the conditions (questions) of a run with the answers, waiting conditions first."""
    return await fetch_details(await fetch_conditions(run.name, limit, offset), Condition.of)


@router.post(
    "/runs/{name}/conditions/{action}",
    summary="Answer a condition",
    responses={202: {"model": Condition, "description": "Flyte has not recorded the answer yet"}},
)
async def answer_condition(
    run: RunDep,
    action: ActionName,
    value: Annotated[Answer, Body(embed=True, description="The answer, of the condition's `type`")],
    response: Response,
) -> Condition:
    """Answer a condition (question) of a run as the caller, and return the condition.

    If Flyte has not recorded the answer within 5 seconds, the status is 202, and the condition in
    the response has no answer yet. If Flyte has recorded another answer before, the status is 409.
    """
    details = await fetch_condition(run.name, action)
    if not details.pb2.HasField("condition"):
        raise HTTPException(404, f"the action {action!r} is not a condition")
    condition = Condition.of(details)
    if condition.type == "number" and type(value) is int:
        value = float(value)
    if ANSWER_TYPES[type(value)] != condition.type:
        kind = f"type {condition.type}" if condition.type else "a type that this app does not know"
        raise HTTPException(422, f"the answer to {condition.name!r} must be of {kind}")

    is_over = run.done() or details.done()
    if not is_over and not is_answered(details):
        await remote.Condition(state_of(details).pb2).signal.aio(value)
    async with best_effort(RECORDED_WITHIN):  # if this fails, respond with the older state
        details = await wait_for_answer(details)
    if is_answered(details):
        recorded = answer_of(details)
        if (type(recorded), recorded) != (type(value), value):  # 1 is not true
            raise HTTPException(409, f"{condition.name!r} has been answered otherwise")
    elif is_over or details.done():
        raise HTTPException(409, f"{condition.name!r} has timed out, or its run has ended")
    else:
        response.status_code = 202
    return Condition.of(details)

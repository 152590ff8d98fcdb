"""Waiting no longer than a request may."""

import asyncio
import math
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager, suppress

import anyio
from flyte import remote
from flyte.models import ActionPhase
from flyteidl2.workflow.run_definition_pb2 import Run

from ..calls.request_state import cancelled_at_stop, this_request
from ..calls.sdk import FLYTE_ERRORS
from ..models import is_answered, phase_of
from .reading import read_details, state_of
from .watching import states_of

LOOK_AGAIN_SECONDS, MAX_LOOK_AGAIN_SECONDS = 0.1, 2.0  # whether an answer has been recorded


async def wait_for(run: remote.Run, seconds: float) -> None:
    """Wait for a run's end, but not longer than this; then update ``run`` to its state.

    Flyte's errors are ignored: the caller must learn in any case that the run was started.
    """
    if seconds and not run.done():
        this_request().turn.let_go()
        async with best_effort(seconds), aclosing(states_of(run.action)) as states:
            async for _ in states:
                pass
        async with best_effort():
            run.action = await read_details(run.action, state_of)
            run.pb2 = Run(action=run.action.pb2)


async def wait_for_answer(condition: remote.ActionDetails) -> remote.ActionDetails:
    """Wait until a condition's answer is recorded, or the condition ends; return the details.

    Flyte records an answer a moment later, sometimes after the run's end, and without a change of
    the state that a watch would tell.
    """
    pause = LOOK_AGAIN_SECONDS
    while not is_answered(condition) and phase_of(condition.raw_phase) is ActionPhase.PAUSED:
        await asyncio.sleep(pause)
        pause = min(2 * pause, MAX_LOOK_AGAIN_SECONDS)
        condition = await remote.ActionDetails.get_details.aio(condition.action_id)
    return condition


@asynccontextmanager
async def best_effort(seconds: float = math.inf) -> AsyncGenerator[None]:
    """Run the block for what it may add to an answer, which is given in any case.

    The block is left after these seconds, after ``FLYTE_TIMEOUT``, shortly before the request's
    deadline, when the server is asked to stop, or at any error of Flyte's.
    """
    deadline = this_request().deadline
    left = 0.9 * deadline.seconds_left()  # a tenth is left to write the answer
    with (
        suppress(*FLYTE_ERRORS),
        anyio.move_on_after(min(seconds, deadline.timeout, left)) as limit,
    ):
        cancelled_at_stop.add(limit)
        try:
            yield
        finally:
            cancelled_at_stop.discard(limit)

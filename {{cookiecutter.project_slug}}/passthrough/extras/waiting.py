"""Waiting no longer than a request may."""

import math
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, cast

import anyio
from flyte import remote
from flyte.models import ActionPhase

from ..calls.request_state import cancelled_at_stop, this_request
from ..calls.sdk import FLYTE_ERRORS
from ..models import is_answered, phase_of


async def wait_for(run: remote.Run, seconds: float) -> None:
    """Wait for a run's end, but not longer than this; update ``run`` to the latest state.

    Flyte's errors are ignored: the caller must learn in any case that the run was started.
    """
    if seconds and not run.done():
        async with best_effort(seconds):
            async for _ in run.watch():
                pass


async def wait_for_answer(condition: remote.ActionDetails) -> remote.ActionDetails:
    """Wait until a condition's answer is recorded, or the condition ends; return the details."""
    latest, states = condition, remote.ActionDetails.watch.aio(condition.action_id)
    async with aclosing(cast(Any, states)):
        async for latest in states:
            if is_answered(latest) or phase_of(latest.raw_phase) is not ActionPhase.PAUSED:
                break
    return latest


@asynccontextmanager
async def best_effort(seconds: float = math.inf) -> AsyncGenerator[None]:
    """Run the block for what it may add to an answer, which is given in any case.

    The block is left after these seconds, after ``FLYTE_TIMEOUT``, shortly before the request's
    deadline, when the server is asked to stop, or at any error of Flyte's.
    """
    calls = this_request()
    left = 0.9 * calls.deadline.seconds_left()  # a tenth is left to write the answer
    with (
        suppress(*FLYTE_ERRORS),
        anyio.move_on_after(min(seconds, calls.deadline.timeout, left)) as limit,
    ):
        cancelled_at_stop.add(limit)
        try:
            yield
        finally:
            cancelled_at_stop.discard(limit)

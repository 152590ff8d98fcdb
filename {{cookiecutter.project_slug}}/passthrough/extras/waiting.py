"""Waiting for Flyte, but not longer than the request may take."""

import math
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import anyio
from flyte import remote
from flyte.models import ActionPhase

from ..calls.errors import FLYTE_ERRORS
from ..calls.request_calls import request_calls
from ..http.stopping import stopping
from ..models import is_answered, phase_of


async def wait_for(run: remote.Run, seconds: float) -> None:
    """Wait for a run's end, but not longer than this; update ``run`` to the latest state.

    Without seconds, nothing is asked. Flyte's errors are ignored: the caller must learn in any case
    that the run was started.
    """
    if not seconds or run.done():
        return
    async with best_effort(seconds):
        async for _ in run.watch():
            pass


async def wait_for_answer(condition: remote.ActionDetails) -> remote.ActionDetails:
    """Wait until Flyte has recorded a condition's answer, or its end; return its details then."""
    states: Any = remote.ActionDetails.watch.aio(condition.action_id)
    details = condition
    async with aclosing(states):
        async for details in states:
            if is_answered(details) or phase_of(details.raw_phase) is not ActionPhase.PAUSED:
                break
    return details


@asynccontextmanager
async def best_effort(seconds: float = math.inf) -> AsyncGenerator[None]:
    """Run the block for what it may add to an answer, which is given in any case.

    It is left when this time is over or the request's, when the server is asked to stop, or when
    Flyte fails: its errors are swallowed, also that the caller may not do it.
    """
    calls = request_calls()
    left = 0.9 * calls.deadline.seconds_left()  # a tenth is left to write the answer
    with (
        suppress(*FLYTE_ERRORS),
        anyio.move_on_after(min(seconds, calls.deadline.timeout, left)) as limit,
    ):
        stopping.cancel_at_stop(limit)
        try:
            yield
        finally:
            stopping.forget(limit)

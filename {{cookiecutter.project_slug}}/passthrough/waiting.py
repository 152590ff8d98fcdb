"""Waiting for Flyte, but not longer than the request may take."""

import asyncio
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from flyte import remote

from .calls.errors import FLYTE_ERRORS
from .calls.request_calls import request_calls
from .requests.stopping import stopping


async def wait_for(run: remote.Run, seconds: float) -> None:
    """Wait for a run's end, but not longer than this; update ``run`` to the latest state.

    Without seconds, nothing is asked. Flyte's errors are ignored: the caller must learn in any case
    that the run was started.
    """
    if not seconds or run.done():
        return
    async with in_time(seconds):
        async for _ in run.watch():
            pass


@asynccontextmanager
async def in_time(seconds: float = math.inf) -> AsyncGenerator[None]:
    """Leave the block after this time, early enough to answer, or when Flyte fails.

    The block also ends when the server is asked to stop.
    """
    calls = request_calls()
    limit = asyncio.timeout(min(seconds, calls.timeout, 0.9 * calls.deadline.seconds_left()))
    with suppress(*FLYTE_ERRORS):
        async with limit:
            stopping.expire_at_stop(limit)
            yield

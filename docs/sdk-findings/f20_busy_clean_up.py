"""Leaving a watch uses a whole core until Flyte responds.

The clean-up of an abandoned generator is `while ag_running: sleep(0)`, a busy loop until the
control plane responds. One viewer who closes a tab uses a whole core.

Severity: Medium, since 2.12.0.

Patch: `syncify/_api.py`, `_aclose_async_gen`: keep the task of the running `__anext__`, cancel
it, await it, then `aclose()`. Better: run `.aio` in the caller's own loop, where a cancellation
arrives by itself.
"""

import asyncio
import time

from flyte import remote
from harness import ACTION, plane, until


async def leave():
    plane.answers.clear()
    watching = asyncio.ensure_future(anext(remote.ActionDetails.watch.aio(ACTION)))
    await until(lambda: plane.count("WatchActionDetails"))
    watching.cancel()
    began = time.process_time()
    await until(lambda: time.process_time() - began > 3)  # of 30 seconds in which nothing happens


asyncio.run(leave())

"""A cancelled log ends as if it were complete.

`Logs.tail` and `AppLogs.tail` return after a `CancelledError`, which they get with `idle_timeout`,
or from an interceptor. A timeout is lost, and a partial log looks complete.

Severity: Medium, tried with 2.12.1.

Patch: `remote/_logs.py`: do not catch `CancelledError`; catch `KeyboardInterrupt` in the
command line only.
"""

import asyncio

from flyte.remote._logs import Logs
from flyte.syncify import syncify
from harness import ACTION, plane


@syncify
async def read():
    async with asyncio.timeout(1):
        return [line async for line in Logs.tail.aio(ACTION, idle_timeout=60)]


plane.log = ["one"]
plane.answers.clear()  # there is more to come
assert len(read()) == 1

"""`Action.wait` swallows a cancellation.

A task that is cancelled while it waits continues as if the run had ended.

Severity: Medium, tried with 2.12.1.

Patch: `remote/_action.py`, `Action.wait`: do not catch `CancelledError`; catch
`KeyboardInterrupt` in the command line only.
"""

import asyncio

from flyte import remote
from harness import plane, until


async def wait():
    action = (await remote.Run.get.aio("r")).action
    waiting = asyncio.create_task(action.wait(quiet=True))
    await until(lambda: plane.count("WatchActionDetails"))
    waiting.cancel()
    await asyncio.wait({waiting})
    return waiting.cancelled()


assert asyncio.run(wait()) is False

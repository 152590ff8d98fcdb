"""A blocking call in an `async def` stops every caller.

`remote.User.get()`, written by mistake instead of `remote.User.get.aio()`, blocks the event
loop until Flyte has answered, without a warning; `run.wait()` until the run has ended.

Severity: Medium, since 2.3.9 or older.

Patch: `syncify/_api.py`, `call_in_loop_sync` and `iterate_in_loop_sync`: raise if there is a
running loop in this thread, and name the `.aio` to use. (A warning for a version first.)
"""

import asyncio
import threading

from flyte import remote
from harness import plane


async def endpoint():
    plane.answers.clear()
    asyncio.get_running_loop().call_later(0.1, served.append, "somebody else")
    threading.Timer(1, plane.answers.set).start()
    remote.User.get()
    return list(served)


served = []
assert asyncio.run(endpoint()) == []

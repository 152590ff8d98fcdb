"""A cancelled watch subscribes again.

When `ActionDetails.watch.aio` or `run.watch()` is cancelled, the stream ends with
`ConnectError(CANCELED)`. That counts as transient, so the generator subscribes again with the
caller's credentials, after the request has ended. After 50 viewers had left, there were 50
additional calls.

Severity: High, since 2.8.0.

Patch: `remote/_action.py`, `_is_transient_watch_error`: CANCELED is not transient. Better, in
an interceptor: raise the `CancelledError` behind it (`error.__cause__`), which connectrpc turns
into CANCELED.
"""

import asyncio

from flyte import remote
from harness import ACTION, plane, until


async def leave():
    plane.answers.clear()
    watching = asyncio.ensure_future(anext(remote.ActionDetails.watch.aio(ACTION)))
    await until(lambda: plane.count("WatchActionDetails") == 1)
    watching.cancel()
    await until(lambda: plane.count("WatchActionDetails") == 2)


asyncio.run(leave())

"""The response of SelectCluster is shared between callers.

Responses of SelectCluster are cached by operation and project or action, for the lifetime of the
client. Data calls of the next caller use the cached cluster. (From 2.8 to
2.11, concurrent callers shared the call itself.)

Severity: Medium, tried with 2.12.1.

Patch: `remote/_client/controlplane.py`, the keys of `_client_cache`: add `get_auth_metadata()`,
or cache nothing in passthrough. The clients themselves may be cached by address.
"""

import asyncio

from flyte import remote
from harness import ALICE, BOB, plane

for caller in (ALICE, BOB):
    with remote.auth_metadata(caller):
        asyncio.run(remote.RunDetails.get(name="r").inputs())
assert plane.received("GetActionData", "authorization") == [ALICE[1], BOB[1]]
assert plane.received("SelectCluster", "authorization") == [ALICE[1]]

"""Flyte's error texts are logged, with any token that they quote.

The watch logs the text of an error as a warning. If an ingress or an identity provider quotes a
token that it refuses, the token gets into the app's log.

Severity: High, since 2.8.0.

Patch: `remote/_action.py`, `ActionDetails.watch`: log `e.code`, not `e`. Likewise in
`_log_retry`.
"""

import logging

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyte import remote
from harness import ACTION, plane

logged = []
logging.getLogger("flyte").addFilter(lambda record: logged.append(record.getMessage()))
plane.failures["WatchActionDetails"] = [ConnectError(Code.UNAVAILABLE, "bad token of-alice")] * 6
next(iter(remote.ActionDetails.watch(ACTION)))
assert "of-alice" in logged[0]

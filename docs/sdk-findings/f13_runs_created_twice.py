"""A run without a name may be created twice.

UNAVAILABLE makes the SDK send CreateRun again. If only the response was lost, the retry starts
another run.

Severity: Medium, since 2.3.9 or older.

Patch: `_run.py`, `_Runner`: choose the name before the first attempt, so that a retry finds the
run; and treat ALREADY_EXISTS after a retry as success.
"""

import flyte
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyte import remote
from harness import plane

plane.failures["CreateRun"] = [ConnectError(Code.UNAVAILABLE, "the answer was lost")]
flyte.run(remote.Task.get("t", auto_version="latest"))
assert plane.count("CreateRun") == 2

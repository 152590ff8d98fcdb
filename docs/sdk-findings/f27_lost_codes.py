"""An error of `flyte.run` loses its code.

INVALID_ARGUMENT and ALREADY_EXISTS from CreateRun become a `RuntimeUserError` without a cause;
other codes survive only in `__cause__` of a `RunCreationError`.

Severity: Low, tried with 2.12.1.

Patch: `_run.py`, `_Runner._run_remote`: `from e` in both places; an error class with Connect's
`code`.
"""

import flyte
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyte import remote
from harness import plane

plane.failures["CreateRun"] = [ConnectError(Code.INVALID_ARGUMENT, "no such input")]
try:
    flyte.run(remote.Task.get("t", auto_version="latest"))
except flyte.errors.RuntimeUserError as error:
    raised = error
assert raised.__cause__ is None

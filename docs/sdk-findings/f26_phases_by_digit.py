"""A single phase is sent digit by digit.

With a single phase, `in_phase` assigns a string to a repeated field. This works by chance for
phases with one digit; RECOVERED, number 10, becomes the values `1` and `0`, an internal error
of open-source Flyte.

Severity: Low, tried with 2.12.1.

Patch: `remote/_run.py`, `Run.listall`: `values=phases`. Likewise in `Action.listall`.
"""

from flyte import remote
from harness import plane

list(remote.Run.listall(in_phase=("recovered",)))
(asked,) = plane.messages["ListRuns"]
assert [list(f.values) for f in asked.request.filters] == [["1", "0"]]

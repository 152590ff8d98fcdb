"""`created_by_subject` filters by a field that open-source Flyte refuses.

`listall(created_by_subject=…)` filters by the field `created_by`. The open-source backend calls
the field `created_by_subject` and refuses the other, so `flyte get run --only-mine` fails.

Severity: Medium, tried with 2.12.1.

Patch: `remote/_common.py`, `filtering`: the field is `created_by_subject`; or let the backend
accept both.
"""

from flyte import remote
from harness import plane

list(remote.Run.listall(created_by_subject="alice"))
(asked,) = plane.messages["ListRuns"]
assert [f.field for f in asked.request.filters] == ["created_by"]

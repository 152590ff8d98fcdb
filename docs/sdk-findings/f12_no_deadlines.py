"""No call has a deadline.

`timeout` and `read_timeout` of the HTTP client are None, and no call has a Connect timeout. If
the control plane hangs, the SDK waits forever (tried for 70 s).

Severity: Medium, since 2.3.9 or older.

Patch: `flyte.init(rpc_timeout=…)`, passed to the clients in `remote/_client/controlplane.py` as
connectrpc's `timeout_ms` for unary calls; for streams, a limit until the first message.
"""

from flyte import remote
from harness import plane

remote.User.get()
assert plane.received("UserInfo", "connect-timeout-ms") == [None]

"""Calls and streams are repeated after they took effect.

After UNAUTHENTICATED, UNKNOWN, or a text with "unauthorized", the auth interceptor retries the
call; after UNAVAILABLE or INTERNAL the retry interceptor does. So they retry an AbortRun that
has taken effect, and a stream that has already delivered messages: log lines appear twice.

Severity: Medium, tried with 2.12.1.

Patch: `remote/_client/auth/_interceptors/auth.py` and `retry.py`: retry a stream only before
its first message. `_is_auth_retriable`: exclude UNKNOWN, and retry nothing in passthrough,
since there is nothing to refresh.
"""

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyte import remote
from harness import plane

plane.log, lost = ["one", "two"], ConnectError(Code.UNKNOWN, "connection lost")
plane.failures |= {"TailLogs": [lost], "AbortRun": [lost]}
lines = [line.strip() for line in remote.Run.get("r").get_logs()]
remote.Run.get("r").abort()
assert lines == ["one", "two", "one", "two"]
assert plane.count("AbortRun") == 2

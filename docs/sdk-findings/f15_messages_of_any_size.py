"""A message of any size is read.

There is no limit, and messages may be compressed: a few bytes can expand to any size in memory.

Severity: Medium, tried with 2.12.1.

Patch: `SessionConfig.connect_kwargs`: our own HTTP client, which stops reading at 2.5 MB, a
little more than the data proxy's limit. (connectrpc checks the size only after reading all of a
message; that is a problem of connectrpc.)
"""

from flyte import remote
from harness import plane

plane.subject = "x" * 2**26
assert len(remote.User.get().subject()) == 2**26

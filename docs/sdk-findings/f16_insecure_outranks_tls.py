"""`_U_INSECURE` outranks an explicit TLS endpoint.

`init_in_cluster(endpoint="dns:///host")` connects to that host in plaintext if the environment
has `_U_INSECURE=true`, which the devbox injects.

Severity: Medium, since 2.3.9 or older.

Patch: `_initialize.py`, where `init_in_cluster` reads its variables: apply `_U_INSECURE` only
to an endpoint from `_U_EP_OVERRIDE`.
"""

import os

import flyte
from flyte import remote
from harness import plain

os.environ["_U_INSECURE"] = "true"
address = plain.endpoint.removeprefix("http://")
flyte.init_in_cluster(endpoint=f"dns:///{address}", org="o")
assert remote.User.get().subject() == "someone"

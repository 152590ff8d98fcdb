"""Plaintext connections silently drop the caller's credentials.

With `insecure=True` the interceptors that add metadata are not installed (flyte-sdk pull
request 761). Calls inside `auth_metadata` succeed anonymously.

Severity: High, since 2.3.9 or older.

Patch: `remote/_client/auth/_session.py`, `create_session_config`: raise if `auth_type` is
`Passthrough` and `insecure` is set, unless an option allows anonymous calls.
"""

import flyte
from flyte import remote
from harness import plain

flyte.init(endpoint=plain.endpoint, insecure=True, auth_type="Passthrough", org="o")
assert remote.User.get().subject() == "someone"
assert plain.received("UserInfo", "authorization") == [None]

"""A custom credential follows a redirect to another host.

The HTTP client follows redirects. It removes Authorization and Cookie when the host changes,
but no other metadata, such as an API key.

Severity: High, since 2.3.9 or older.

Patch: `remote/_client/auth/_session.py`, `_build_pyqwest_client`: `follow_redirects=False`
(pyqwest 0.9). A Connect server has no reason to redirect.
"""

import contextlib

from flyte import remote
from harness import plain, plane

plane.redirect_to = plain.endpoint
with remote.auth_metadata(("x-api-key", "of-alice")), contextlib.suppress(Exception):
    remote.User.get()
assert "of-alice" in plain.received("UserInfo", "x-api-key")

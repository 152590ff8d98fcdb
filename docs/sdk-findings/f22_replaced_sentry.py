"""Starting a run takes over the app's Sentry.

The first `flyte.run` of a process calls `sentry_sdk.init` with Flyte's own DSN, unless
`DO_NOT_TRACK=1`. That replaces the client of the whole process: from then on, an app's own
Sentry events, including callers' data, go to Flyte's project.

Severity: High, tried with 2.12.1.

Patch: `_sentry.py`: use a separate `sentry_sdk.Client` in a separate scope, instead of calling
`sentry_sdk.init`; and only in the command line.
"""

import os

import flyte
import harness
import sentry_sdk
from flyte import remote

os.environ.pop("DO_NOT_TRACK", None)
init, nowhere = sentry_sdk.init, lambda envelope: None  # nothing is sent
sentry_sdk.init = lambda **options: init(**options, transport=nowhere)
sentry_sdk.init(dsn="https://key@of-the-app.example/1")
flyte.run(remote.Task.get("t", auto_version="latest"))
assert "of-the-app" not in sentry_sdk.get_client().dsn

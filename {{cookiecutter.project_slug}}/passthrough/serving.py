"""How uvicorn serves the app, however it is started."""

from typing import Any

UVICORN: dict[str, Any] = {
    # A client has nothing to say on a WebSocket: no message of its may cost more than it has sent.
    "ws_max_size": 4096,
    "ws_max_queue": 1,
    "ws_per_message_deflate": False,
    "access_log": False,  # the app's own is passthrough/access_log.py
    "timeout_graceful_shutdown": 20,
}
"""Options of ``uvicorn.Config``. On the command line: ``--ws-max-size 4096 --ws-max-queue 1
--ws-per-message-deflate false --no-access-log --timeout-graceful-shutdown 20``."""

"""uvicorn's options, the same however the app is started."""

from typing import Any

UVICORN: dict[str, Any] = {
    # Clients mostly listen on WebSockets: no message may cost more memory than its own size.
    "ws_max_size": 64 * 1024,
    "ws_per_message_deflate": False,
    "proxy_headers": False,  # the app does not use the client's address
    "access_log": False,  # http/door.py has its own
    "reset_contextvars": True,  # nothing of one request is left for the next on its connection
    # Longer than proxies keep idle connections (60 or 90 seconds, usually): if the app closes one
    # while a proxy sends a request on it, the request fails.
    "timeout_keep_alive": 120,
    "timeout_graceful_shutdown": 20,
}
"""Options of ``uvicorn.Config``."""

COMMAND_LINE = (
    "--ws-max-size 65536 --ws-per-message-deflate False --no-proxy-headers --no-access-log"
    " --reset-contextvars --timeout-keep-alive 120 --timeout-graceful-shutdown 20"
)
"""The same options for the ``uvicorn`` command."""

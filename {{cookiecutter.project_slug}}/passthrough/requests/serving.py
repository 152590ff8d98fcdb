"""uvicorn's options, the same however the app is started."""

from typing import Any

UVICORN: dict[str, Any] = {
    # Clients mostly listen on WebSockets: no message may cost more memory than its own size.
    "ws": "websockets-sansio",
    "ws_max_size": 4096,
    "ws_max_queue": 1,
    "ws_per_message_deflate": False,
    "proxy_headers": False,  # the app does not use the client's address
    "access_log": False,  # requests/door.py has its own
    # Longer than proxies keep idle connections (60 or 90 seconds, usually): if the app closes one
    # while a proxy sends a request on it, the request fails.
    "timeout_keep_alive": 120,
    "timeout_graceful_shutdown": 20,
}
"""Options of ``uvicorn.Config``."""

COMMAND_LINE = (
    "--ws websockets-sansio --ws-max-size 4096 --ws-max-queue 1"
    " --ws-per-message-deflate false --no-access-log --no-proxy-headers"
    " --timeout-keep-alive 120 --timeout-graceful-shutdown 20"
)
"""The same options for the ``uvicorn`` command."""

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


def _argument(name: str, value: Any) -> str:
    option = name.replace("_", "-")
    if isinstance(value, bool) and name != "ws_per_message_deflate":
        return f"--{option}" if value else f"--no-{option}"
    return f"--{option} {value}"


COMMAND_LINE = " ".join(_argument(name, value) for name, value in UVICORN.items())
"""The same options for the ``uvicorn`` command."""

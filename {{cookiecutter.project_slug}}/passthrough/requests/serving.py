"""uvicorn's options, the same however the app is started."""

import asyncio
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

HEARD_AT_ONCE = 16 * 1024  # bytes
HEARD_PER_SECOND = 4 * 1024


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Disconnects a client that sends more on a WebSocket than a listener needs to.

    uvicorn handles everything that has arrived, pings and empty frames, while other clients wait.
    """

    since: float | None = None
    heard = 0.0

    def data_received(self, data: bytes) -> None:
        """Handle data, or end the connection. The handshake comes first and does not count."""
        now = asyncio.get_running_loop().time()
        if self.since is not None:  # time without data earns no extra allowance
            self.heard = max(0, self.heard - HEARD_PER_SECOND * (now - self.since)) + len(data)
        self.since = now
        if self.heard > HEARD_AT_ONCE:
            self.transport.abort()
        else:
            super().data_received(data)

    async def send(self, message: Any) -> None:
        """Send a message. A refusal completes the handshake; otherwise uvicorn logs an error."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True


UVICORN: dict[str, Any] = {
    # Clients only listen on WebSockets: no message may cost more memory than its own size.
    "ws": WebSocketProtocol,
    "ws_max_size": 4096,
    "ws_max_queue": 1,
    "ws_per_message_deflate": False,
    "proxy_headers": False,  # the app does not use the client's address
    "access_log": False,  # passthrough/access_log.py replaces it
    # Longer than proxies keep idle connections (60 or 90 seconds, usually): if the app closes one
    # while a proxy sends a request on it, the request fails.
    "timeout_keep_alive": 120,
    "timeout_graceful_shutdown": 20,
}
"""Options of ``uvicorn.Config``."""

COMMAND_LINE = (
    "--ws passthrough.requests.serving:WebSocketProtocol --ws-max-size 4096 --ws-max-queue 1"
    " --ws-per-message-deflate false --no-access-log --no-proxy-headers"
    " --timeout-keep-alive 120 --timeout-graceful-shutdown 20"
)
"""The same options for the ``uvicorn`` command."""

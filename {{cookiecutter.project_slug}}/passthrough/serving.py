"""How uvicorn serves the app, however it is started."""

import asyncio
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

HEARD_AT_ONCE = 16 * 1024  # bytes
HEARD_PER_SECOND = 4 * 1024


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Cuts a client off that sends a WebSocket more than somebody who listens has to say.

    uvicorn works through whatever has come, pings and empty frames, while all others wait.
    """

    since: float | None = None
    heard = 0.0

    def data_received(self, data: bytes) -> None:
        """Read on, or end the connection. The handshake comes first, and does not count."""
        now = asyncio.get_running_loop().time()
        if self.since is not None:  # a silence is not saved up for later
            self.heard = max(0, self.heard - HEARD_PER_SECOND * (now - self.since)) + len(data)
        self.since = now
        if self.heard > HEARD_AT_ONCE:
            self.transport.abort()
        else:
            super().data_received(data)

    async def send(self, message: Any) -> None:
        """Send a message. A refusal completes the handshake, or uvicorn would log an error."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True


UVICORN: dict[str, Any] = {
    # A client has nothing to say on a WebSocket: no message of its may cost more than it has sent.
    "ws": WebSocketProtocol,
    "ws_max_size": 4096,
    "ws_max_queue": 1,
    "ws_per_message_deflate": False,
    "proxy_headers": False,  # nothing here asks where a request comes from
    "access_log": False,  # the app's own is passthrough/access_log.py
    "timeout_graceful_shutdown": 20,
}
"""Options of ``uvicorn.Config``."""

COMMAND_LINE = (
    "--ws-max-size 4096 --ws-max-queue 1 --ws-per-message-deflate false --no-access-log"
    " --no-proxy-headers --timeout-graceful-shutdown 20"
)
"""Those that the command has."""

"""uvicorn's options, the same however the app is started."""

import socket
from contextlib import suppress
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from ..limits import (
    MAX_ARRIVING_HEADER_BYTES,
    MAX_FRAME_BYTES_AT_ONCE,
    MAX_PIPELINED_REQUESTS,
    MAX_STALLED_SECONDS,
    MAX_UNSENT_BYTES,
    MAX_WEBSOCKET_MESSAGE_BYTES,
)


class HttpProtocol(HttpToolsProtocol):
    """Ignores trailer fields, and disconnects a client who takes nothing any more.

    The system does that, on Linux, if there is something to read. Nothing else knows when a slow
    client has taken some of a message, and can close a connection with unsent data. A client slower
    than about 5 kB/s may look like that, since its system confirms what it has read in large steps;
    it can resume.

    A client may send further requests before it has the response, but not many, and no WebSocket:
    uvicorn keeps all of them, and when the client leaves it tells only the last.
    """

    patience = MAX_STALLED_SECONDS
    _is_in_head = False
    _arrived = 0
    _open: tuple[RequestResponseCycle, ...] = ()

    def connection_made(self, transport: Any) -> None:
        """Configure the connection."""
        super().connection_made(transport)
        with suppress(AttributeError, OSError):  # another system, or no TCP
            set_option = transport.get_extra_info("socket").setsockopt
            set_option(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, self.patience * 1000)
            set_option(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, MAX_UNSENT_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell each request that the client has left."""
        for cycle in self._open:
            cycle.disconnected = not cycle.response_complete
            cycle.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived, unless it is still the same request's headers."""
        self._arrived = self._arrived + len(data) if self._is_in_head else 0
        if self._arrived > MAX_ARRIVING_HEADER_BYTES:
            self.send_400_response("The headers are too large.")
        else:
            super().data_received(data)

    def handle_websocket_upgrade(self) -> None:
        """Leave the connection to a WebSocket, unless a request is being served on it."""
        if all(cycle.response_complete for cycle in self._open):
            super().handle_websocket_upgrade()
        else:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Refuse what has arrived, but not in the middle of another response."""
        if any(cycle.response_started and not cycle.response_complete for cycle in self._open):
            self.transport.close()
        else:
            super().send_400_response(msg)

    def on_message_begin(self) -> None:
        """Begin a request.

        Raises:
            ValueError: Too many wait. uvicorn answers with 400 and closes the connection.
        """
        if len(self.pipeline) >= MAX_PIPELINED_REQUESTS:
            raise ValueError("too many requests at once")
        super().on_message_begin()
        self._is_in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, but no trailer field, which would count as one (RFC 9110 6.5.1)."""
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Let the app serve the request, at once or after those before it."""
        self._is_in_head, may_read, before = False, not self.flow.read_paused, self.cycle
        super().on_headers_complete()
        if self.cycle is not before:  # else it is a WebSocket
            unfinished = (cycle for cycle in self._open if not cycle.response_complete)
            self._open = (*unfinished, self.cycle)
        if self.pipeline and may_read:
            self.flow.resume_reading()  # else nobody would notice that the client leaves


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Parses a little at a time, and only what the endpoint has room for.

    A frame may be empty and takes 3 microseconds, and uvloop reads 8 MB before others are served.
    """

    _rest = b""

    def data_received(self, data: bytes) -> None:
        """Parse some of what has arrived, and the rest when others have been served."""
        data = self._rest + data
        most = MAX_FRAME_BYTES_AT_ONCE if self.handshake_initiated else len(data)
        some, self._rest = data[:most], data[most:]
        super().data_received(some)
        if not self.handshake_initiated:  # it is too large or has a body; nobody else says so
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            self.transport.close()
        self._hold()

    def _hold(self) -> None:
        if self._rest:
            self.transport.pause_reading()
            if not self.read_paused:  # else the endpoint reads first
                self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if self.transport.is_closing():
            self._rest = b""
        else:
            self.data_received(b"")
            if not self._rest and not self.read_paused:
                self.transport.resume_reading()

    async def receive(self) -> Any:
        """Return the next message; uvicorn then reads on, if there is no other."""
        message = await super().receive()
        self._hold()
        return message

    def handle_cont(self, event: Frame) -> None:
        """Keep a message's next part, but no empty ones, which no limit counts."""
        if event.data or event.fin:
            super().handle_cont(event)

    def handle_ping(self) -> None:
        """Answer, but not to a client who does not take the answers (RFC 6455 5.5.3)."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()


UVICORN: dict[str, Any] = {
    "http": "passthrough.http.serving:HttpProtocol",
    # Clients mostly listen on WebSockets: no message may cost more memory than its own size.
    "ws": "passthrough.http.serving:WebSocketProtocol",
    "ws_max_size": MAX_WEBSOCKET_MESSAGE_BYTES,
    "ws_max_queue": 1,
    "ws_per_message_deflate": False,
    "proxy_headers": False,  # the app does not use the client's address
    "access_log": False,  # http/door.py has its own
    # Longer than proxies keep idle connections (60 or 90 seconds, usually): if the app closes one
    # while a proxy sends a request on it, the request fails.
    "timeout_keep_alive": 120,
    "timeout_graceful_shutdown": 20,
}
"""Options of ``uvicorn.Config``."""

COMMAND_LINE = (
    "--http passthrough.http.serving:HttpProtocol"
    " --ws passthrough.http.serving:WebSocketProtocol"
    f" --ws-max-size {MAX_WEBSOCKET_MESSAGE_BYTES} --ws-max-queue 1"
    " --ws-per-message-deflate False --no-access-log --no-proxy-headers"
    " --timeout-keep-alive 120 --timeout-graceful-shutdown 20"
)
"""The same options for the ``uvicorn`` command."""

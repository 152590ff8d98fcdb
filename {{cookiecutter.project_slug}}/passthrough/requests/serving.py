"""uvicorn's options, the same however the app is started."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

BUFFER = 64 * 1024  # bytes that the system keeps for a client who does not read; else 4 MB


class HttpProtocol(HttpToolsProtocol):
    """Ignores trailer fields, and disconnects a client who takes nothing for half a minute.

    The system does that, on Linux, if there is something to read. Nothing else knows when a slow
    client has taken some of a message, and can close a connection with unsent data. A client slower
    than about 5 kB/s may look like that, since its system confirms what it has read in large steps;
    it can resume.
    """

    patience = 30
    """Seconds."""
    _is_in_head = False

    def connection_made(self, transport: Any) -> None:
        """Configure the connection."""
        super().connection_made(transport)
        with suppress(AttributeError, OSError):  # another system, or no TCP
            options = {
                socket.TCP_NOTSENT_LOWAT: BUFFER,
                socket.TCP_USER_TIMEOUT: self.patience * 1000,
            }
            for option, value in options.items():
                transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, option, value)

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._is_in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, but no trailer field, which would count as one (RFC 9110 6.5.1)."""
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Let the app serve the request."""
        self._is_in_head = False
        super().on_headers_complete()


UVICORN: dict[str, Any] = {
    "http": "passthrough.requests.serving:HttpProtocol",
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


def _arguments() -> Iterator[str]:
    for option in uvicorn.main.params:
        if option.name in UVICORN:
            value = UVICORN[option.name]
            if option.secondary_opts:  # of a flag: what turns it off
                yield (option.opts if value else option.secondary_opts)[0]
            else:
                yield f"{option.opts[0]} {value}"


COMMAND_LINE = " ".join(_arguments())
"""The same options for the ``uvicorn`` command."""

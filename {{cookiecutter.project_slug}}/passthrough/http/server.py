"""Serves the app with uvicorn: corrects disconnects, pipelining and graceful shutdown."""

from typing import Any

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from ..calls.request_state import called_at_stop

MAX_PIPELINED = 10  # waiting requests on a connection; with more, the connection is closed


class Protocol(HttpToolsProtocol):
    """A connection of uvicorn, with corrections of disconnects and of graceful shutdown."""

    _running: RequestResponseCycle | None = None
    _unread_bytes = 0  # of the body of the last request, if the app does not read it

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_headers_complete(self) -> None:
        """Continue to read after a pipelined request, to notice a disconnect."""
        super().on_headers_complete()
        self._unread_bytes = 0
        if len(self.pipeline) > MAX_PIPELINED:
            self.transport.close()
        elif self.pipeline:
            self.flow.resume_reading()

    def on_body(self, body: bytes) -> None:
        """Close the connection if the app does not read a large body, to notice a disconnect.

        The body of a pipelined request, or of a GET, is not read. Without this method, uvicorn
        would stop to read from the connection.
        """
        if self.pipeline or self.scope["method"] in {"GET", "HEAD"}:
            self._unread_bytes += len(body)
            if self._unread_bytes > HIGH_WATER_LIMIT:
                self.transport.close()
                return
        super().on_body(body)

    def connection_lost(self, exc: Exception | None) -> None:
        """Notify the running request of the disconnect, and free the last request.

        uvicorn notifies only the last received request. After a reset, uvicorn keeps the last
        request with credentials until ``timeout_keep_alive`` is over, so that six unknown clients
        could fill 38 MB of memory per second.
        """
        super().connection_lost(exc)
        if self._running and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        self._running = None
        if timer := self.timeout_keep_alive_task:
            timer.cancel()

    def _unsupported_upgrade_warning(self) -> None:
        """Log nothing, because `RequestMiddleware` refuses WebSockets."""

    def shutdown(self) -> None:
        """Stop open requests, because uvicorn waits for them."""
        super().shutdown()
        for call, loop in list(called_at_stop.items()):
            if loop is self.loop:  # another thread may have another server
                del called_at_stop[call]
                call()


UVICORN: dict[str, Any] = {
    "http": f"{__name__}:Protocol",  # a name, so that UVICORN_HTTP can have the same value
    "ws": "none",  # the app uses event streams instead of WebSockets
    "proxy_headers": False,  # the app does not use the address of the client
    "access_log": False,  # http/middleware.py writes the access log
    "reset_contextvars": True,  # separate the requests of a connection
    # This must be longer than proxies keep idle connections, usually 60 or 90 seconds. Otherwise
    # the app may close a connection while a proxy sends a request.
    "timeout_keep_alive": 120,
    "timeout_graceful_shutdown": 20,
}
"""Options of ``uvicorn.Config`` that the app needs, also for graceful shutdown.

Example:
    server = uvicorn.Server(uvicorn.Config("app.main:app", port=8000, **UVICORN))
"""

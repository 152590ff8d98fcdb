"""Corrects how uvicorn handles disconnects, pipelining and graceful shutdown."""

from typing import Any

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from ..calls.request_state import called_at_stop
from .cancellation import CONNECTION_LOST

MAX_PIPELINED = 10  # waiting requests on a connection; more requests close the connection


class Protocol(HttpToolsProtocol):
    """A connection of uvicorn that handles disconnects and graceful shutdown correctly."""

    _running: RequestResponseCycle | None = None

    def connection_made(self, transport: Any) -> None:
        """Make a future, with which each request of the connection notices a disconnect."""
        super().connection_made(transport)
        self._connection_lost = self.loop.create_future()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._running = cycle
        cycle.scope[CONNECTION_LOST] = self._connection_lost
        super()._start_asgi_task(cycle, app)

    def on_headers_complete(self) -> None:
        """Continue to read from the connection after a pipelined request, to notice disconnects."""
        super().on_headers_complete()
        if len(self.pipeline) > MAX_PIPELINED:
            self.transport.close()
        elif self.pipeline:
            self.flow.resume_reading()

    def on_body(self, body: bytes) -> None:
        """Close the connection if the app does not read a large body, to notice a disconnect.

        The app does not read the body of a GET, or of a pipelined request that waits. Without this
        method, uvicorn would stop reading from the connection, and notice no disconnect.
        """
        super().on_body(body)
        is_unread = self.pipeline or self.scope["method"] in {"GET", "HEAD"}
        if is_unread and len(self.cycle.body) > HIGH_WATER_LIMIT:
            self.transport.close()

    def on_message_complete(self) -> None:
        """Continue to read from the connection after a large body, to notice a disconnect."""
        super().on_message_complete()
        self.flow.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the running request, and free the memory of the newest request.

        uvicorn itself notifies only the newest request. After a reset, uvicorn would keep the
        newest request in memory, including its credentials, until ``timeout_keep_alive`` is over.
        Therefore six unauthenticated clients could fill 38 MB of memory per second.
        """
        super().connection_lost(exc)
        if self._running and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        self._running = None
        self._connection_lost.set_result(None)
        if timer := self.timeout_keep_alive_task:
            timer.cancel()

    def _unsupported_upgrade_warning(self) -> None:
        """Log nothing, because `RequestMiddleware` refuses WebSockets."""

    def shutdown(self) -> None:
        """Stop open requests, because uvicorn waits for them.

        uvicorn itself closes the connection after the newest request, so it would start the
        pipelined requests before.
        """
        super().shutdown()
        if self._running:
            self._running.keep_alive = False
        for call, loop in list(called_at_stop.items()):
            if loop is self.loop:  # another thread may run another server
                del called_at_stop[call]
                call()


UVICORN: dict[str, Any] = {
    "http": f"{__name__}:Protocol",  # a name, so that UVICORN_HTTP can have the same value
    "ws": "none",  # the app uses event streams instead of WebSockets
    "proxy_headers": False,  # the app does not use the address of the client
    "access_log": False,  # http/middleware.py writes the access log
    "reset_contextvars": True,  # separate the requests of a connection
    # Seconds. Proxies usually keep idle connections for 60 or 90 seconds. The app must keep them
    # longer; otherwise it may close a connection while a proxy sends a request.
    "timeout_keep_alive": 120,
    "timeout_graceful_shutdown": 20,
}
"""Options of ``uvicorn.Config`` that the app needs, for example for graceful shutdown.

Example:
    server = uvicorn.Server(uvicorn.Config("app.main:app", port=8000, **UVICORN))
"""

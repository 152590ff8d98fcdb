"""Corrects how uvicorn handles disconnects, pipelining and graceful shutdown."""

from typing import Any

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from ..calls.request_state import called_at_stop
from .cancellation import CONNECTION_LOST


class Protocol(HttpToolsProtocol):
    """A connection of uvicorn that handles disconnects and graceful shutdown correctly."""

    _running: RequestResponseCycle | None = None
    _is_after_upgrade = False

    def connection_made(self, transport: Any) -> None:
        """Create the future that is done when the client of this connection has disconnected."""
        super().connection_made(transport)
        self._connection_lost = self.loop.create_future()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._running = cycle
        cycle.scope[CONNECTION_LOST] = self._connection_lost

        async def serve(scope: Any, receive: Any, send: Any) -> None:
            await app(scope, receive, send)
            if self.flow.write_paused and not cycle.response_complete:
                # `ResponseSender` has ended the response, because the client reads too slowly.
                # `close` would wait until the client has read the rest.
                self.transport.abort()

        super()._start_asgi_task(cycle, serve)

    def on_headers_complete(self) -> None:
        """Ignore trailers, and let only one request wait for the end of the running request.

        uvicorn appends the trailers of a chunked body to the headers of the running request. A
        server must not do that (RFC 9110, section 6.5.1): a trailer could contain credentials that
        the middleware and a proxy in front of the app have not seen.
        """
        super().on_headers_complete()
        if not self.parser.should_upgrade():  # uvicorn still reads the headers of an upgrade
            self.headers = []  # a new list, because uvicorn appends trailers to this attribute
        # One request may wait, because a client may send it as soon as it has received all bytes of
        # the previous response, before the app has sent the end of this response to uvicorn.
        if len(self.pipeline) > 1:
            self.transport.close()
        elif self.pipeline:
            self.flow.resume_reading()

    def on_body(self, body: bytes) -> None:
        """Close the connection if a waiting request has a large body.

        uvicorn stops reading from the connection while a large body is unread, so it would not
        notice a disconnect during the running request.
        """
        super().on_body(body)
        if self.pipeline and len(self.cycle.body) > HIGH_WATER_LIMIT:
            self.transport.close()

    def on_message_complete(self) -> None:
        """Keep reading after a large body, so that uvicorn notices a disconnect."""
        super().on_message_complete()
        self.flow.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the running request, and free the memory of the connection's newest request.

        If another request waits when the client disconnects, uvicorn notifies only the waiting
        request.

        If the client resets the connection, uvicorn itself keeps the newest request with its
        credentials in memory until ``timeout_keep_alive`` has passed. So six unauthenticated
        clients could fill 38 MB of memory per second.
        """
        super().connection_lost(exc)
        self.eof_received()
        self._running = None
        if timer := self.timeout_keep_alive_task:
            timer.cancel()

    def eof_received(self) -> None:
        """Cancel the running request when the client closes its side of the connection.

        The event loop calls `connection_lost` later, after it has sent the unread response.
        """
        if self._running and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        if not self._connection_lost.done():
            self._connection_lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Parse bytes from the client, unless a request with ``Upgrade`` came before them."""
        if not self._is_after_upgrade:
            super().data_received(data)

    def _unsupported_upgrade_warning(self) -> None:
        """Close the connection after the response to a request with ``Upgrade``.

        The parser does not know where a request with ``Upgrade`` ends. The parser would read the
        body as the next request (request smuggling), and a proxy would mix up the responses of two
        users.
        """
        self._is_after_upgrade = True
        self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """Make open requests end, because a stopping server waits for all open requests.

        uvicorn would run the waiting request of a connection, too. This method lets uvicorn close
        the connection after the running request.
        """
        super().shutdown()
        if self._running:
            self._running.keep_alive = False
        for call, loop in list(called_at_stop.items()):
            if loop is self.loop:  # ignore requests to other servers in this process
                del called_at_stop[call]
                call()


UVICORN: dict[str, Any] = {
    "http": f"{__name__}:Protocol",  # a name, because UVICORN_HTTP cannot contain a class
    "ws": "none",  # the app uses event streams instead of WebSockets
    "proxy_headers": False,  # the app does not use the address of the client
    "access_log": False,  # http/middleware.py writes the access log
    "reset_contextvars": True,  # requests of one connection share no context variables
    # Seconds. The app must keep idle connections longer than the proxy, usually 60 or 90 seconds.
    # Otherwise the app may close a connection while the proxy sends a request.
    "timeout_keep_alive": 120,
    "timeout_graceful_shutdown": 20,
}
"""Options of ``uvicorn.Config`` that the app needs, for example for graceful shutdown.

Example:
    server = uvicorn.Server(uvicorn.Config("app.main:app", port=8000, **UVICORN))
"""

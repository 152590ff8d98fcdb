"""What is changed of the server."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Protocol(HttpToolsProtocol):
    """Keeps nothing of a connection that was reset, as clients and some proxies end theirs.

    uvicorn keeps its last request, with credentials, until ``timeout_keep_alive`` is over: six
    clients whom nobody knows took 38 MB a second.
    """

    def connection_lost(self, exc: Exception | None) -> None:
        """End the connection."""
        super().connection_lost(exc)
        if timer := self.timeout_keep_alive_task:
            timer.cancel()

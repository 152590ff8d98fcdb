"""Serves ASGI applications in a thread."""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import uvicorn
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp

Result = TypeVar("Result")

# The SDK assumes that a server named "localhost" has no TLS, so use the address.
HOST = "127.0.0.1"
# Accepted hosts in Host headers. Any other host indicates DNS rebinding by a website.
HOSTS = ("127.0.0.1", "localhost", "[::1]")
STOP_SECONDS = 60


def listen(port: int = 0) -> socket.socket:
    """Listen on a loopback port; 0 means any free port."""
    listener = socket.create_server((HOST, port))
    # Without TCP_NODELAY, each response would be delayed by 40 ms. asyncio sets this option only
    # for sockets with an explicit protocol.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


class Background:
    """A thread with an event loop that serves applications on the loopback interface."""

    def __init__(self) -> None:
        self._servers: list[tuple[uvicorn.Server, socket.socket]] = []
        self._started = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve()), name="local-flyte", daemon=True
        )

    def add(
        self, application: ASGIApp, listener: socket.socket, certificate: Path | None = None
    ) -> None:
        """Add an application. A file ``certificate``, with chain and key, enables TLS."""
        config = uvicorn.Config(
            TrustedHostMiddleware(application, allowed_hosts=HOSTS, www_redirect=False),
            interface="asgi3",
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=60,  # longer than the timeout of clients, so clients close first
            timeout_graceful_shutdown=1,
            ssl_certfile=certificate,
        )
        self._servers.append((uvicorn.Server(config), listener))

    def start(self) -> None:
        self._thread.start()
        self._started.wait()

    def call(self, function: Callable[[], Result]) -> Result:
        """Call a function in the event loop, and return the result."""

        async def call() -> Result:
            return function()

        return self.run(call())

    def run(self, coroutine: Coroutine[Any, Any, Result], seconds: float | None = None) -> Result:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(seconds)

    def stop(self) -> None:
        for server, _ in self._servers:
            server.should_exit = True
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            raise RuntimeError(f"the local Flyte server is still running after {STOP_SECONDS} s")

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._started.set()
        await asyncio.gather(*(server.serve([listener]) for server, listener in self._servers))
        # Clients that keep connections open never reply to TLS's close_notify.
        for server, _ in self._servers:
            for connection in server.server_state.connections:
                connection.transport.abort()
        await asyncio.sleep(0)

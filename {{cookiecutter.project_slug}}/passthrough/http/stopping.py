"""Streams and long waits end when the server is asked to stop; no endpoint stops it.

A server waits for open requests before it tells the app to shut down. A stream would make it wait
until its timeout, and then be cut off. Here the stream ends at the signal, so that its viewer can
reconnect to another replica.
"""

import asyncio
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FrameType

import anyio

COME_BACK = b"retry: 1000\n\n"
"""The end of an unfinished event stream: the client reconnects after this many milliseconds."""


class Stopping:
    """Whether this process has been asked to stop, by SIGTERM or Ctrl-C."""

    def __init__(self) -> None:
        self._has_begun = False
        self._scopes = set[anyio.CancelScope]()

    def listen(self) -> None:
        """Handle the signals that stop the server, in addition to the server's own handler."""
        if threading.current_thread() is not threading.main_thread():
            return  # no signal stops this server alone
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            if callable(handler := signal.getsignal(number)):
                signal.signal(number, partial(self._handle, handler))

    def _handle(self, handler: Callable[..., object], number: int, frame: FrameType | None) -> None:
        self._has_begun = True
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._cancel)
        handler(number, frame)

    def cancel_at_stop(self, scope: anyio.CancelScope) -> None:
        """Cancel what runs in a scope at the signal, until `forget`."""
        self._scopes.add(scope)
        if self._has_begun:
            scope.cancel()

    def forget(self, scope: anyio.CancelScope) -> None:
        """Let what follows in the scope go on after the signal."""
        self._scopes.discard(scope)

    def _cancel(self) -> None:
        for scope in self._scopes:
            scope.cancel()


stopping = Stopping()

"""Streams and long waits end when the server is asked to stop.

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


class Stopping:
    """Whether this process has been asked to stop, by SIGTERM or Ctrl-C."""

    def __init__(self) -> None:
        self.begun = False
        self._timeouts: dict[asyncio.Timeout, asyncio.AbstractEventLoop] = {}

    def listen(self) -> None:
        """Handle the signals that stop the server, in addition to the server's own handler."""
        if threading.current_thread() is not threading.main_thread():
            return  # no signal stops this server alone
        for number in (signal.SIGINT, signal.SIGTERM):
            if callable(handler := signal.getsignal(number)):
                signal.signal(number, partial(self._handle, handler))

    def _handle(self, handler: Callable[..., object], number: int, frame: FrameType | None) -> None:
        self.begun = True
        for timeout, loop in [*self._timeouts.items()]:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._expire, timeout)
        handler(number, frame)

    def ends(self, timeout: asyncio.Timeout) -> None:
        """Make a timeout, entered or about to be entered, expire at the signal."""
        self._timeouts[timeout] = asyncio.get_running_loop()
        if self.begun:
            self._timeouts[timeout].call_soon(self._expire, timeout)

    def leaves(self, timeout: asyncio.Timeout) -> None:
        """Forget a timeout whose block has been left."""
        self._timeouts.pop(timeout, None)

    def _expire(self, timeout: asyncio.Timeout) -> None:
        loop = self._timeouts.pop(timeout, None)
        if loop and not timeout.expired():
            timeout.reschedule(loop.time())


stopping = Stopping()

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
from weakref import WeakSet

COME_BACK = b"retry: 1000\n\n"
"""The end of an unfinished event stream: the client reconnects after this many milliseconds."""


class Stopping:
    """Whether this process has been asked to stop, by SIGTERM or Ctrl-C."""

    def __init__(self) -> None:
        self.begun = False
        self._timeouts = WeakSet[asyncio.Timeout]()

    def listen(self) -> None:
        """Handle the signals that stop the server, in addition to the server's own handler."""
        if threading.current_thread() is not threading.main_thread():
            return  # no signal stops this server alone
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            if callable(handler := signal.getsignal(number)):
                signal.signal(number, partial(self._handle, handler))

    def _handle(self, handler: Callable[..., object], number: int, frame: FrameType | None) -> None:
        self.begun = True
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._expire)
        handler(number, frame)

    def expire_at_stop(self, timeout: asyncio.Timeout) -> None:
        """Make a timeout expire at the signal."""
        self._timeouts.add(timeout)
        if self.begun:
            asyncio.get_running_loop().call_soon(self._expire)

    def forget(self, timeout: asyncio.Timeout) -> None:
        """Let what follows in the block, such as background tasks, go on after the signal."""
        self._timeouts.discard(timeout)

    def is_interrupt(self, error: BaseException) -> bool:
        """Tell whether an exception is the server's own: Ctrl-C, where it has no handler."""
        return self.begun and isinstance(error, KeyboardInterrupt)

    def _expire(self) -> None:
        while self._timeouts:
            with suppress(RuntimeError):  # it has expired, or its block has been left
                self._timeouts.pop().reschedule(0)  # which is past on the loop's clock


stopping = Stopping()

"""Streams and long waits end when the server is asked to stop: SIGTERM, or Ctrl-C.

Without this, the server waits for them until its timeout, and then cuts them off.
"""

import asyncio
import signal
from contextlib import suppress
from types import FrameType
from typing import Any

import anyio

COME_BACK = b"retry: 1000\n\n"
"""The end of an unfinished event stream: the client reconnects after this many milliseconds."""
cancelled_at_stop = set[anyio.CancelScope]()
"""The scopes of what ends at the signal."""


def listen() -> None:
    """Handle the signals, in addition to the server's own handler."""
    loop = asyncio.get_running_loop()
    handlers = dict[int, Any]()

    def handle(number: int, frame: FrameType | None) -> None:
        for scope in cancelled_at_stop:
            loop.call_soon_threadsafe(scope.cancel)
        handlers[number](number, frame)

    for number in (signal.SIGINT, signal.SIGTERM):
        handlers[number] = signal.getsignal(number)
        if callable(handlers[number]):
            with suppress(ValueError):  # in a thread, where no signal stops this server alone
                signal.signal(number, handle)

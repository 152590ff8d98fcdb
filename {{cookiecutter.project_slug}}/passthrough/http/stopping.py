"""Streams and long waits end when the server is asked to stop: SIGTERM, or Ctrl-C.

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
cancelled_at_stop = set[anyio.CancelScope]()
"""The scopes of what ends at the signal."""


def listen() -> None:
    """Handle the signals that stop the server, in addition to the server's own handler."""
    if threading.current_thread() is not threading.main_thread():
        return  # no signal stops this server alone
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        if callable(handler := signal.getsignal(number)):
            signal.signal(number, partial(_handle, loop, handler))


def _handle(
    loop: asyncio.AbstractEventLoop,
    handler: Callable[..., object],
    number: int,
    frame: FrameType | None,
) -> None:
    with suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(_cancel)
    handler(number, frame)


def _cancel() -> None:
    for scope in cancelled_at_stop:
        scope.cancel()

"""Streams and long waits end when the server is asked to stop; no endpoint stops it.

A server waits for open requests before it tells the app to shut down. A stream would make it wait
until its timeout, and then be cut off. Here the stream ends at the signal, so that its viewer can
reconnect to another replica.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any
from weakref import WeakSet

from ..calls.request_calls import current_calls

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
                self._timeouts.pop().reschedule(0)


stopping = Stopping()


def contain_exits() -> None:
    """Make an exit in one of a request's tasks an ordinary error.

    asyncio ends the event loop if a task raises ``SystemExit``, as argparse and click do. Streams
    run in tasks that FastAPI starts, and so does an endpoint behind an owner's middleware: no other
    place is around all of them. A task costs 2 microseconds more, of 9.
    """
    loop = asyncio.get_running_loop()
    make: Any = loop.get_task_factory() or _make_task

    def make_contained(loop: Any, coro: Any, **options: Any) -> Any:
        if current_calls.get() is None:
            return make(loop, coro, **options)
        task = make(loop, _contained(coro), **options)
        task.add_done_callback(lambda _: coro.close())  # if it was cancelled before it began
        return task

    loop.set_task_factory(make_contained)


def _make_task(loop: Any, coro: Any, **options: Any) -> Any:
    return asyncio.Task(coro, loop=loop, **options)


async def _contained(coro: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await coro
    except (SystemExit, KeyboardInterrupt) as error:
        if stopping.is_interrupt(error):
            raise
        raise RuntimeError(f"a task raised {type(error).__name__}") from error

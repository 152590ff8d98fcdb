"""Large messages of Flyte's are read and decoded one after the other."""

import asyncio
import gc
from collections.abc import Callable
from contextlib import suppress
from weakref import WeakKeyDictionary, WeakSet

LARGE_BYTES = 256 * 1024
"""A message with more bytes than this is large."""

_collecting = WeakSet[asyncio.AbstractEventLoop]()
_locks = WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock]()


class LargeMessages:
    """A request's turns to read large messages of Flyte's.

    A decoded message may take 60 times its size in memory. So one request of an event loop has a
    turn at a time, from a message's first `LARGE_BYTES` until it has used the message: until it
    calls Flyte again, sends something to its client, or ends. The SDK has a loop of its own for
    calls from threads, so at most two large messages are in memory at once, besides those that an
    endpoint keeps for longer.

    A request never waits while it keeps a turn for a message that it has read, so no two requests
    wait for each other, and none for itself.
    """

    def __init__(self) -> None:
        self._kept: list[Callable[[], None]] = []
        self._waiting = 0
        self._has_ended = self._has_begun = False

    async def begin(self) -> Callable[[], None]:
        """Wait for a turn, and return what ends it. It may be called in any thread."""
        self.release()
        self._has_begun = True
        loop = asyncio.get_running_loop()
        lock = _locks.setdefault(loop, asyncio.Lock())
        self._waiting += 1
        try:
            await lock.acquire()
        finally:
            self._waiting -= 1

        def end() -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(lock.release)

        return end

    def keep(self, end: Callable[[], None]) -> None:
        """Keep a turn, whose message has been read, until that has been used."""
        self._kept.append(end)
        if self._waiting or self._has_ended:
            self.release()

    def release(self) -> None:
        """End the turns that are kept."""
        while self._kept:
            self._kept.pop()()

    def end(self) -> None:
        """End the turns that are kept, and keep none from now on."""
        self._has_ended = True
        self.release()
        if self._has_begun:
            _collect_soon()


def _collect_soon() -> None:
    """Run the collector in a second, once for all requests that end meanwhile.

    A stream that is left while its endpoint is at a ``yield`` is in a cycle of anyio's, with the
    message that it was reading.
    """
    with suppress(RuntimeError):  # there is no loop here
        loop = asyncio.get_running_loop()
        if loop not in _collecting:
            _collecting.add(loop)
            loop.call_later(1.0, _collect, loop)


def _collect(loop: asyncio.AbstractEventLoop) -> None:
    _collecting.discard(loop)
    gc.collect()

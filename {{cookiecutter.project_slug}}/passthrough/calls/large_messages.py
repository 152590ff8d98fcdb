"""Large messages of Flyte's are read and decoded one after the other."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from weakref import WeakKeyDictionary

LARGE_BYTES = 256 * 1024
"""A message with more bytes than this is large."""

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
        self._has_ended = False

    async def begin(self) -> Callable[[], None]:
        """Wait for a turn, and return what ends it. It may be called in any thread."""
        self.release()
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

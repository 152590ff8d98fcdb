"""Turns at what few requests of a process may do at once."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from weakref import WeakKeyDictionary, WeakValueDictionary


class Turns:
    """Lets a few in at a time. Of each caller one waits, so callers with many requests alternate.

    Each event loop has turns of its own; an object may be made before there is a loop.
    """

    def __init__(self) -> None:
        self._free = WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]()
        self._lines = WeakValueDictionary[tuple[int, str | None], asyncio.Lock]()

    async def begin(self, at_once: int, caller: str | None) -> Callable[..., None]:
        """Wait for one of so many turns, and return what ends it, in any thread."""
        loop = asyncio.get_running_loop()
        free = self._free.setdefault(loop, asyncio.Semaphore(at_once))
        line = self._lines.setdefault((id(loop), caller), asyncio.Lock())
        async with line:
            await free.acquire()
        turns = [free]

        def end(*_: object) -> None:
            while turns:
                with suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(turns.pop().release)

        return end

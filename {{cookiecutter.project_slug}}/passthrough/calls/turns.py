"""Turns at what few requests of a process may do at once."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from weakref import WeakKeyDictionary, WeakValueDictionary


class Turns:
    """Lets a few in at a time. A caller with many requests delays another by one of them.

    The requests of a caller queue behind each other; the first of each caller waits for a turn.
    Each event loop has turns of its own, as many as the first `begin` in it asks for.
    """

    def __init__(self) -> None:
        self._free = WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]()
        self._lines = WeakValueDictionary[tuple[int, str | None], asyncio.Lock]()

    async def begin(self, at_once: int, caller: str | None) -> Callable[[], None]:
        """Wait for one of so many turns, and return what ends it, in any thread."""
        loop = asyncio.get_running_loop()
        free = self._free.setdefault(loop, asyncio.Semaphore(at_once))
        line = self._lines.setdefault((id(loop), caller), asyncio.Lock())
        async with line:
            await free.acquire()
        turns = [free]

        def end() -> None:
            while turns:
                with suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(turns.pop().release)

        return end

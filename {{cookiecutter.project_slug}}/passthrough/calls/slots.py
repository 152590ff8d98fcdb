"""The slots for what is large in memory."""

import asyncio
import math
from typing import ClassVar
from weakref import WeakKeyDictionary

LARGE_BYTES = 256 * 1024  # a larger message or body needs a slot
SLOTS = 1  # of all requests together
SLOT_SECONDS = 10.0  # then the slot is another request's


class MemorySlot:
    """A request's slot: its right to hold one large message of Flyte's, or one large JSON body.

    Decoded, a message may take 40 times its bytes, and anybody may store one. So a request acquires
    one of the process's `SLOTS` before it reads a message or a body above `LARGE_BYTES`.

    It releases it when its answer begins, unless that is an event stream, and when it ends; and,
    unless its body is large, when it asks a stream of Flyte's for the next message, and when
    details have been read: what it has received before is used up then. Between these, the SDK may
    keep a message, also while it makes other calls.

    Nobody waits for ever: a request has one slot at most, and passes it on after `SLOT_SECONDS`. If
    it is sending then, because its client reads slowly, it is ended (``http/exchange.py``).

    Small messages need no slot: who has a hundred large requests delays other large ones only.
    """

    _free: ClassVar = WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]()

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Hold no slot. Without the server's loop, as outside of a request, none is needed."""
        self.until = math.inf  # the time of the loop at which the slot is passed on
        self._loop = loop
        self._acquiring = asyncio.Lock()  # the calls of a request share its slot
        self._is_kept = False

    async def acquire(self, size: int, *, until_end: bool = False) -> None:
        """Wait for a slot, if this many bytes need one. May be called in any event loop."""
        if size > LARGE_BYTES and self._loop:
            self._is_kept |= until_end
            acquired = asyncio.run_coroutine_threadsafe(self._acquire(self._loop), self._loop)
            await asyncio.wrap_future(acquired)

    async def _acquire(self, loop: asyncio.AbstractEventLoop) -> None:
        async with self._acquiring:
            if self.until == math.inf:
                await self._free.setdefault(loop, asyncio.Semaphore(SLOTS)).acquire()
                self.until = loop.time() + SLOT_SECONDS
                self._timer = loop.call_at(self.until, self._release, loop)

    def release(self, *, is_end: bool = False) -> None:
        """Give the slot back, if held. May be called in any thread."""
        if self.until < math.inf and self._loop and (is_end or not self._is_kept):
            self._loop.call_soon_threadsafe(self._release, self._loop)

    def _release(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.until < math.inf:
            self.until = math.inf
            self._timer.cancel()
            self._free[loop].release()

"""Memory slots: how many requests may hold something large in memory at the same time."""

import asyncio
import math
import time
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from ..limits import limits

if TYPE_CHECKING:
    from .request_state import Deadline

LARGE_MESSAGE = 64 * 1024  # bytes; a larger message from Flyte needs a slot
LARGE_BODY = 128 * 1024  # bytes; a larger JSON body needs a slot
MANY_VALUES = 4_000  # a JSON body with more values needs a slot, whatever its size
HOLD_SECONDS = 10.0  # for which a request may hold a slot once its response has begun

_semaphores = WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Semaphore]]()


class MemorySlot:
    """A request's right to hold what is large: messages from Flyte, or its own JSON body.

    Once decoded, a message takes up to 80 times its size, and a parsed body 40 times. Therefore a
    request acquires one of the process's slots before it decodes a message above `LARGE_MESSAGE`,
    and one of another kind before it parses a body above `LARGE_BODY` or with more than
    `MANY_VALUES`. Requests without large messages and bodies wait for nobody. All calls of a
    request share its slot. A request that needs both kinds acquires the body's first, so requests
    cannot wait for each other in a circle.

    A request releases its slots when its response begins and when it ends. The slot for messages is
    also released when their details have been read (`RequestState.release_messages`), and when a
    stream is asked for its next message, because all earlier ones have been used by then.

    A slot that is held is never given to another request, so the memory is bounded whatever Flyte
    and clients do. The time is bounded, too: before the response begins, by the request's deadline;
    afterwards by a deadline of `HOLD_SECONDS`. Then an event stream, for example to a slow client,
    is ended, and the client reconnects.
    """

    def __init__(self, limit: str, deadline: "Deadline") -> None:
        """Hold no slot yet.

        Args:
            limit: The field of `Limits` that says how many slots of this kind there are.
            deadline: The request's. Its event loop is the server's; outside of a request there is
                none, and no slot is needed.
        """
        self._limit, self._deadline = limit, deadline
        self._acquiring: asyncio.Lock | None = None
        self._held: asyncio.Semaphore | None = None
        self._has_deadline = False  # of its own, after the response has begun
        self._has_ended = False

    async def acquire(self) -> float:
        """Wait for a slot, unless the request holds one. Return the seconds of waiting.

        May be called in any event loop, because endpoints may call Flyte in threads.
        """
        began = time.perf_counter()
        if loop := self._deadline.loop:
            acquiring = asyncio.run_coroutine_threadsafe(self._acquire(loop), loop)
            await asyncio.wrap_future(acquiring)
        return time.perf_counter() - began

    async def _acquire(self, loop: asyncio.AbstractEventLoop) -> None:
        semaphores = _semaphores.setdefault(loop, {})
        if self._limit not in semaphores:
            semaphores[self._limit] = asyncio.Semaphore(getattr(limits(), self._limit))
        self._acquiring = self._acquiring or asyncio.Lock()
        async with self._acquiring:
            if not self._held:
                await semaphores[self._limit].acquire()
                self._held = semaphores[self._limit]
            if self._has_ended:  # while its thread waited
                self._release()
            elif self._deadline.seconds_left() == math.inf:
                self._has_deadline = True
                self._deadline.begin(HOLD_SECONDS)

    def release(self) -> None:
        """Give the slot back, if the request holds one. May be called in any thread."""
        if self._held and self._deadline.loop:
            self._deadline.loop.call_soon_threadsafe(self._release)

    def _release(self) -> None:
        if self._held:
            self._held.release()
            self._held = None
        if self._has_deadline:
            self._has_deadline = False
            self._deadline.remove()

    def end(self) -> None:
        """Give the slot back: the request ends."""
        self._has_ended = True
        self.release()

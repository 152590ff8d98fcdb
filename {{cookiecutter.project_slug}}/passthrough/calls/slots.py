"""Memory slots limit how many requests may hold something large in memory at the same time."""

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
MANY_VALUES = 4_000  # a JSON body with more values needs a slot, even if the body is small
HOLD_SECONDS = 10.0  # how long a request may hold a slot after the response has begun

_semaphores = WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Semaphore]]()


class MemorySlot:
    """A slot that a request needs to keep large messages or a large JSON body in memory.

    A decoded message takes up to 80 times the memory of the encoded message, and a parsed body up
    to 40 times the memory of the body. Therefore a request acquires a slot before it decodes a
    message above `LARGE_MESSAGE`, and a slot of another kind before it parses a body above
    `LARGE_BODY` or with more than `MANY_VALUES`. A request with neither a large message nor a large
    body never waits. All calls of a request share one slot. A request that needs both kinds
    acquires the slot for the body first, so there is no deadlock.

    `ResponseSender` releases both slots when the response begins, and `RequestState.end` when the
    request ends. The slot for messages is also released when the app has copied the parts that it
    needs (`RequestState.release_messages`), and when the app reads the next message of a stream,
    because the app has used all earlier messages by then. The slot is not released while another
    call of the request receives a large message, because the parts of that message are in memory.

    While a request holds a slot, no other request gets this slot. Therefore memory is bounded, even
    if Flyte or a client is slow. The time is bounded by the deadline of the request until the
    response begins, and by `HOLD_SECONDS` afterwards. If `HOLD_SECONDS` pass, for example because
    the client of an event stream reads slowly, the app ends the stream, and the client reconnects.
    """

    def __init__(self, limit: str, deadline: "Deadline") -> None:
        """Hold no slot yet.

        Args:
            limit: The field of `Limits` with the number of slots of this kind.
            deadline: The deadline of the request. Its ``loop`` is the event loop of the server.
                Outside of a request, ``loop`` is None, and no slot is needed.
        """
        self._limit, self._deadline = limit, deadline
        self._acquiring = asyncio.Lock()  # several calls may need the slot at the same time
        self.receivers = set[object]()  # calls that receive a large message
        self._held: asyncio.Semaphore | None = None
        self._has_set_deadline = False  # whether `acquire` has set a deadline of `HOLD_SECONDS`

    async def acquire(self) -> float:
        """Wait for a slot, unless the request holds one. Return the waiting time in seconds.

        This method may be called in any event loop, because endpoints may call Flyte in threads.
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
        async with self._acquiring:
            if not self._held:
                await semaphores[self._limit].acquire()
                self._held = semaphores[self._limit]
            if self._deadline.has_ended:  # the request ended while one of its threads was waiting
                self._release()
            elif self._deadline.seconds_left() == math.inf:
                self._has_set_deadline = True
                self._deadline.begin(HOLD_SECONDS)

    def release(self) -> None:
        """Release the slot, if the request holds one. Any thread may call this method."""
        is_needed = self.receivers and not self._deadline.has_ended
        if self._held and self._deadline.loop and not is_needed:
            self._deadline.loop.call_soon_threadsafe(self._release)

    def _release(self) -> None:
        if self._held:
            self._held.release()
            self._held = None
        if self._has_set_deadline:
            self._has_set_deadline = False
            self._deadline.remove()

"""Memory slots limit the number of requests that may hold large data in memory simultaneously."""

import asyncio
import math
import time
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakValueDictionary

from anyio import to_thread

from ..limits import limits

if TYPE_CHECKING:
    from .request_state import CallerState, Deadline

LARGE_MESSAGE = 64 * 1024  # bytes; a larger message from Flyte needs a slot
LARGE_BODY = 128 * 1024  # bytes; a larger JSON body needs a slot
HOLD_SECONDS = 10.0
"""Maximum time in seconds. A request may hold a slot for this time while it waits for a run, and
after the response has begun."""

_slots = WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, "_Slots"]]()


class _Slots(asyncio.Semaphore):
    """All memory slots of one kind, with a queue that contains one request of each caller.

    The other requests of the caller wait for this request. Therefore a caller with many large
    requests cannot make another caller wait for all of them.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self._queued = WeakValueDictionary[str | None, asyncio.Lock]()  # by hash of the caller

    async def acquire_for(self, caller: str | None) -> None:
        async with self._queued.setdefault(caller, asyncio.Lock()):
            await self.acquire()


class MemorySlot:
    """Acquires and releases a memory slot for one request.

    A decoded message takes up to 80 times the memory of the encoded message. A parsed JSON body
    takes up to 40 times the memory of the unparsed body. Therefore there are two kinds of memory
    slots:

    - A request acquires a slot for messages before it decodes a message above `LARGE_MESSAGE`, or
      converts values or types in a thread (``json_values.py``).
    - A request acquires a slot for bodies before it parses a body above `LARGE_BODY`.

    A request without large data never waits for a slot. All calls of a request share one slot for
    messages. A request that holds the slot for messages reads its body without the other slot.
    Otherwise two requests could wait for each other.

    `ResponseSender` releases both slots when the response begins. `RequestState.end` releases them
    when the request ends. The slot for messages is also released in these cases:

    - The app has copied the parts that it needs, and calls `RequestState.release_messages`.
    - The app has used the earlier messages of a stream, and reads the next message.

    While one call of a request receives a large message, other calls cannot release the slot,
    because parts of the message are in memory.

    A waiting request gets a slot only when another request releases a slot. Therefore slow clients
    or a slow Flyte server cannot increase the use of memory. The deadline of a request limits the
    time until the response begins. After the response has begun, the request may hold a slot for
    `HOLD_SECONDS`. If the client of an event stream reads too slowly, the app ends the stream after
    this time, and the client reconnects.
    """

    def __init__(self, limit: str, deadline: "Deadline", caller: "CallerState") -> None:
        """Create the object without acquiring a slot.

        Args:
            limit: The name of the limit with the number of slots, such as ``max_large_bodies``.
            deadline: The deadline of the request. ``deadline.loop`` is the event loop of the
                server. Outside of a request, ``deadline.loop`` is None, and `acquire` returns
                without a slot.
            caller: The caller of the request.
        """
        self._limit, self._deadline, self._caller = limit, deadline, caller
        self._acquiring = asyncio.Lock()  # simultaneous calls of a request acquire only one slot
        self.receivers = set[object]()  # an object for each call that receives a large message
        self._held: _Slots | None = None
        self._has_set_deadline = False  # whether `acquire` has set a deadline of `HOLD_SECONDS`

    @property
    def is_held(self) -> bool:
        """Whether the request has a slot."""
        return self._held is not None

    async def acquire(self) -> float:
        """Wait for a slot, unless the request has one. Return the duration of the wait, in seconds.

        This method may be called in any event loop, because endpoints may call Flyte in threads.
        """
        began = time.perf_counter()
        if loop := self._deadline.loop:
            is_in_thread = asyncio.get_running_loop() is not loop
            waiting = self._wait_in_thread(loop) if is_in_thread else self._acquire(loop)
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(waiting, loop))
        return time.perf_counter() - began

    async def _wait_in_thread(self, loop: asyncio.AbstractEventLoop) -> None:
        """Acquire a slot for a ``def`` endpoint, which waits in a thread of the thread pool.

        Allow another thread meanwhile. Otherwise waiting threads could fill the pool, and the
        request that holds the slot would wait for a thread.
        """
        threads = to_thread.current_default_thread_limiter()
        threads.total_tokens += 1
        try:
            await self._acquire(loop)
        finally:
            threads.total_tokens -= 1

    async def _acquire(self, loop: asyncio.AbstractEventLoop) -> None:
        slots = _slots.setdefault(loop, {})
        if self._limit not in slots:
            slots[self._limit] = _Slots(getattr(limits(), self._limit))
        async with self._acquiring:
            if not self._held:
                await slots[self._limit].acquire_for(self._caller.hash)
                self._held = slots[self._limit]
            if self._deadline.has_ended:  # the request ended while a thread waited for the slot
                self._release()
            elif self._deadline.seconds_left() == math.inf:
                self._has_set_deadline = True
                self._deadline.begin(HOLD_SECONDS)

    def release(self) -> None:
        """Release the slot, unless a call of the request is receiving a large message.

        Any thread may call this method.
        """
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

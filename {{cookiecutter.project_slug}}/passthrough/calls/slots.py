"""A memory slot limits the number of requests that may hold large data in memory simultaneously."""

import asyncio
import math
import time
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from anyio import to_thread

from ..limits import limits

if TYPE_CHECKING:
    from .request_state import Deadline

LARGE_MESSAGE = 64 * 1024  # bytes; a larger message from Flyte needs a slot
LARGE_BODY = 128 * 1024  # bytes; a larger JSON body needs a slot
HOLD_SECONDS = 10.0  # maximum time in seconds to hold a slot after the response has begun

_slots = WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]()


class MemorySlot:
    """Acquires and releases a memory slot for one request.

    A decoded message takes up to 80 times the memory of the encoded message. A parsed JSON body
    takes up to 40 times the memory of the unparsed body. Therefore a request acquires a slot

    - before it decodes a message above `LARGE_MESSAGE`,
    - before it parses a JSON body above `LARGE_BODY`,
    - before it converts many values or types in a thread (``json_values.py``).

    A request without large data never waits for a slot. All calls of a request share one slot. The
    inner request of a tool call shares the slot of the agent's request, because two slots could
    wait for each other.

    The request releases the slot when the response begins, or when the request ends. It releases
    the slot earlier in two cases, unless a large body, or a large message that is arriving, is also
    in memory (``users``):

    - The app has copied the parts that it needs, and calls `RequestState.release_messages`.
    - The app has used the earlier messages of a stream, and reads the next message.

    A waiting request gets a slot only when another request releases a slot. Therefore slow clients
    or a slow Flyte server cannot increase the use of memory. The deadline of a request limits the
    time until the response begins. After the response has begun, the request may hold a slot for
    `HOLD_SECONDS`. If the client of an event stream reads too slowly, the app ends the stream after
    this time, and the client reconnects.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Create the object without acquiring a slot.

        Args:
            loop: The event loop of the server. Outside of a request, ``loop`` is None, and
                `acquire` returns without a slot.
        """
        self.users = set[object]()  # the large body, and calls that receive a large message
        self._loop = loop
        self._acquiring = asyncio.Lock()  # simultaneous calls of a request acquire only one slot
        self._held: asyncio.Semaphore | None = None
        self._limited: Deadline | None = None  # the deadline that `acquire` has set
        self._has_ended = False

    @property
    def is_held(self) -> bool:
        """Whether the request has a slot."""
        return self._held is not None

    async def acquire(self, deadline: "Deadline") -> float:
        """Wait for a slot, unless the request has one. Return the duration of the wait, in seconds.

        This method may be called in any event loop, because endpoints may call Flyte in threads. If
        ``deadline`` has been removed, the method sets it to `HOLD_SECONDS` until the release.
        """
        began = time.perf_counter()
        if loop := self._loop:
            is_in_thread = asyncio.get_running_loop() is not loop
            wait = self._wait_in_thread if is_in_thread else self._acquire
            waiting = asyncio.run_coroutine_threadsafe(wait(loop, deadline), loop)
            await asyncio.wrap_future(waiting)
        return time.perf_counter() - began

    async def _wait_in_thread(self, loop: asyncio.AbstractEventLoop, deadline: "Deadline") -> None:
        """Acquire a slot for a ``def`` endpoint, which waits in a thread of the thread pool.

        Allow another thread meanwhile. Otherwise waiting threads could fill the pool, and the
        request that holds the slot would wait for a thread.
        """
        threads = to_thread.current_default_thread_limiter()
        threads.total_tokens += 1
        try:
            await self._acquire(loop, deadline)
        finally:
            threads.total_tokens -= 1

    async def _acquire(self, loop: asyncio.AbstractEventLoop, deadline: "Deadline") -> None:
        slots = _slots.setdefault(loop, asyncio.Semaphore(limits().max_large_messages))
        async with self._acquiring:
            if not self._held:
                await slots.acquire()
                self._held = slots
            if self._has_ended:  # the request ended while a thread waited for the slot
                self._release()
            elif deadline.seconds_left() == math.inf:
                self._limited = deadline
                deadline.begin(HOLD_SECONDS)

    def release(self) -> None:
        """Release the slot, unless large data are in memory. Any thread may call this method."""
        if self._held and self._loop and not self.users:
            self._loop.call_soon_threadsafe(self._release)

    def end(self) -> None:
        """Release the slot, because the request has ended."""
        self._has_ended = True
        self.users.clear()
        self.release()

    def _release(self) -> None:
        if self._held:
            self._held.release()
            self._held = None
        if self._limited:
            self._limited.remove()
            self._limited = None

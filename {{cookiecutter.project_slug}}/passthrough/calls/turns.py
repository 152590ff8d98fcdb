"""One request's turn to hold something large."""

import asyncio
from collections.abc import Callable
from typing import ClassVar, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

from anyio import to_thread

T = TypeVar("T")

LINE_BYTES = 32 * 1024  # a caller has one of Flyte's larger messages at a time
LARGE_BYTES = 128 * 1024  # larger ones also need a place
PLACES = 2  # of requests that hold something large, of all callers together
PLACE_SECONDS = 5.0  # then the place is another's, unless a thread is at work


class Turn:
    """A request's turn to hold something large: a body, a message of Flyte's, a translation.

    A decoded message may take 80 times its size in memory, until it is let go. So a request first
    waits in the line of its caller, then for a place. It takes neither twice.

    - Nobody waits for ever. Who waits in a line has nothing, who waits for a place has only the
      line of its own caller, and who has a place waits for neither: there is no circle. The turn
      ends when the request sends something, lets go of what is large, or ends. If Flyte hangs, a
      place is passed on after `PLACE_SECONDS`; while a thread of the request is at work, it is not.
    - No caller starves another. Of each line only the first waits for a place, and places are given
      in the order of asking: a caller with a hundred requests delays others by one.
    """

    _places: ClassVar = WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]()
    _lines: ClassVar = WeakValueDictionary[tuple[int, str | None], asyncio.Lock]()

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Have no turn yet. It is awaited in this loop; default: the first loop that asks."""
        self.whose: str | None = None  # the caller's hash or, if Flyte has told it, their subject
        self.keeps_line = False  # what is large stays in memory, whatever is sent or let go
        self._loop = loop
        self._has_ended = False
        self._waiting = asyncio.Lock()
        self._threads = set[asyncio.Task[object]]()  # in which something large is in use
        self._line: asyncio.Lock | None = None
        self._place: asyncio.TimerHandle | None = None  # the timer that frees its place

    async def begin(self, *, needs_place: bool = True) -> None:
        """Wait for the turn; a list's calls need no place. May be called in any event loop."""
        here = asyncio.get_running_loop()
        loop = self._loop = self._loop or here
        begun = self._begin(loop, needs_place=needs_place)
        far = loop is not here and asyncio.run_coroutine_threadsafe(begun, loop)
        await (asyncio.wrap_future(far) if far else begun)

    async def _begin(self, loop: asyncio.AbstractEventLoop, *, needs_place: bool) -> None:
        try:
            async with self._waiting:  # other calls of the request wait for the same turn
                if not self._line:
                    line = self._lines.setdefault((id(loop), self.whose), asyncio.Lock())
                    await line.acquire()
                    self._line = line
                if needs_place and not self._place:
                    places = self._places.setdefault(loop, asyncio.Semaphore(PLACES))
                    await places.acquire()
                    self._place = loop.call_later(PLACE_SECONDS, self._leave_place)
        finally:
            if self._has_ended:
                self.end()

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Call this in a thread. The turn lasts until it ends: a thread cannot be cancelled."""
        # In a variable, the task would be in a cycle with its error, and keep what it used.
        return await asyncio.shield(self._begin_thread(function))

    def _begin_thread(self, function: Callable[[], T]) -> asyncio.Task[T]:
        def has_ended(thread: asyncio.Task[T]) -> None:
            self._threads.discard(thread)
            if self._has_ended and self._loop:
                self._loop.call_soon_threadsafe(self.let_go)

        thread = asyncio.create_task(to_thread.run_sync(function))
        self._threads.add(thread)
        thread.add_done_callback(has_ended)
        return thread

    def let_go(self) -> None:
        """End the turn, in the request's event loop: nothing large is in use any more."""
        if self._waiting.locked() or self._threads:  # a call of the request will hold something
            return
        self._leave_place()
        if self._line and not self.keeps_line:
            self._line.release()
            self._line = None

    def _leave_place(self) -> None:
        if self._place and self._loop:
            self._place.cancel()
            if self._threads:
                self._place = self._loop.call_later(PLACE_SECONDS, self._leave_place)
                return
            self._place = None
            self._places[self._loop].release()

    def end(self) -> None:
        """End the turn, and have none from now on."""
        self._has_ended, self.keeps_line = True, False
        self.let_go()

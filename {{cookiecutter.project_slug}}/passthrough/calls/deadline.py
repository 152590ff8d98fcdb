"""The deadline of a request; `requests.exchange` makes one for each."""

import asyncio
import math
from contextlib import suppress


class Deadline:
    """The time by which the response to a request must have begun.

    It is extended when a run is started, because the caller
    must learn that it was, and removed when the response has begun, or when a tool call takes over,
    which is a request with a deadline of its own.
    """

    def __init__(self, seconds: float | None = None) -> None:
        """Begin now; without seconds there is no deadline, and no event loop is needed."""
        self._loop = None if seconds is None else asyncio.get_running_loop()
        self.timeout = asyncio.timeout(seconds) if self._loop else asyncio.Timeout(None)
        """To be entered around the request, which it cancels."""

    def seconds_left(self) -> float:
        """Return the seconds that are left; without a deadline, infinity."""
        when = self.timeout.when()
        return math.inf if when is None or self._loop is None else when - self._loop.time()

    async def extend(self, seconds: float) -> None:
        """Leave at least this many seconds from now on. May be called in any thread.

        Raises:
            asyncio.CancelledError: The deadline has passed.
        """
        if self._loop is None:
            return
        # In the request's own loop: a thread's calls run in another one.
        extending = asyncio.run_coroutine_threadsafe(self._extend(seconds), self._loop)
        await asyncio.wrap_future(extending)

    async def _extend(self, seconds: float) -> None:
        if self.timeout.expired():
            raise asyncio.CancelledError("there is no time left to answer this request")
        if when := self.timeout.when():
            self.timeout.reschedule(max(when, asyncio.get_running_loop().time() + seconds))

    def remove(self) -> None:
        """Have no deadline from here on."""
        with suppress(RuntimeError):  # it has passed, or the request has ended
            self.timeout.reschedule(None)

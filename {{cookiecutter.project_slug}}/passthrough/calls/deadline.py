"""The deadline of a request: how much time there is, and what leaves more of it."""

import asyncio
import math
from contextlib import suppress

CALLS = 2
"""How many calls to Flyte, each as slow as it may be, a request has time for."""


class Deadline:
    """The time by which the response to a request must have begun.

    A call to Flyte may take ``FLYTE_TIMEOUT``, and a response twice that to begin. When a run is
    started there is as much time again, because the caller must learn that it was. There is no
    deadline any more when the response has begun, or when a tool call takes over, which is a
    request with a deadline of its own.

    It is made in ``requests.exchange``, entered in ``requests.door``, extended in ``interceptor``,
    and removed in ``requests.exchange`` and ``agents.serve``.
    """

    def __init__(self, flyte_timeout: float | None = None) -> None:
        """Begin now, with Flyte's timeout in seconds.

        Without it there is no deadline, and no event loop is needed.
        """
        self._loop = None if flyte_timeout is None else asyncio.get_running_loop()
        self._seconds = CALLS * (flyte_timeout or 0.0)
        self.timeout = asyncio.timeout(self._seconds) if self._loop else asyncio.Timeout(None)
        """To be entered around the request, which it cancels."""

    def seconds_left(self) -> float:
        """Return the seconds that are left; without a deadline, infinity."""
        when = self.timeout.when()
        return math.inf if when is None or self._loop is None else when - self._loop.time()

    async def extend(self) -> None:
        """Leave as much time as at the beginning. May be called in any thread.

        Raises:
            asyncio.CancelledError: The deadline has passed.
        """
        if self._loop is None:
            return
        # In the request's own loop: a thread's calls run in another one.
        extending = asyncio.run_coroutine_threadsafe(self._extend(), self._loop)
        await asyncio.wrap_future(extending)

    async def _extend(self) -> None:
        if self.timeout.expired():
            raise asyncio.CancelledError("there is no time left to answer this request")
        if self.timeout.when():
            self.timeout.reschedule(asyncio.get_running_loop().time() + self._seconds)

    def remove(self) -> None:
        """Have no deadline from here on."""
        with suppress(RuntimeError):  # it has passed, or the request has ended
            self.timeout.reschedule(None)

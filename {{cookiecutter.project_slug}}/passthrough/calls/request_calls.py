"""The calls to Flyte of one request, and their limits."""

import asyncio
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from flyte import remote


class RequestCalls:
    """One request's open calls to Flyte, their limits, and the tasks fetched for it."""

    def __init__(
        self,
        timeout: float = 30.0,
        data_addresses: Collection[str] = (),
        request_id: str | None = None,
        deadline: asyncio.Timeout | None = None,
    ) -> None:
        """Begin a request.

        Args:
            timeout: Seconds to wait for the answer to a call, or for the first message of a watch.
            data_addresses: Clusters outside Flyte's domain that get credentials, as
                ``https://host[:port]``.
            request_id: Sent to Flyte.
            deadline: Of the request, if it has one.
        """
        self.timeout, self.data_addresses = timeout, data_addresses
        self.request_id, self._deadline = request_id, deadline
        self.tasks: dict[Any, remote.TaskDetails] = {}
        self.seconds = 0.0
        """Total time spent in calls with a single answer."""
        self.subject: str | None = None
        """Flyte's identifier of the caller, if the endpoint has looked it up."""
        self._loop = asyncio.get_running_loop()
        self._open: list[asyncio.Task[Any] | None] = []
        self.has_ended = False

    @contextmanager
    def include(self) -> Iterator[None]:
        """Cancel the current task if the request ends while it is in the block.

        Raises:
            asyncio.CancelledError: The request has ended.
        """
        self._open.append(task := asyncio.current_task())
        try:
            if self.has_ended:  # only now: it may end in another thread at any time
                raise asyncio.CancelledError("the request that made this call to Flyte has ended")
            yield
        finally:
            self._open.remove(task)

    def time_left(self) -> float:
        """Return the seconds left to answer the request."""
        when = self._deadline and self._deadline.when()
        return when - self._loop.time() if when else self.timeout

    async def take_time(self) -> None:
        """Extend the deadline before a run is started: the caller must learn that it was.

        Raises:
            asyncio.CancelledError: The deadline has passed.
        """
        # In the request's own loop: a thread's calls run in another one.
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._extend(), self._loop))

    async def _extend(self) -> None:
        if (deadline := self._deadline) and (when := deadline.when()):
            if deadline.expired():
                raise asyncio.CancelledError("there is no time left to answer this request")
            deadline.reschedule(max(when, self._loop.time() + 2 * self.timeout))

    def leave_deadline(self) -> None:
        """Have no deadline from here on, because work inside the request has one of its own."""
        if self._deadline and not self._deadline.expired():
            self._deadline.reschedule(None)

    def end(self) -> None:
        """Cancel open calls, and refuse new ones."""
        self.has_ended = True
        for task in filter(None, {*self._open}):
            with suppress(RuntimeError):  # its event loop is closed
                task.get_loop().call_soon_threadsafe(task.cancel)


current_calls: ContextVar[RequestCalls | None] = ContextVar("current_calls", default=None)
"""The calls of the current request."""


def request_calls() -> RequestCalls:
    """Return the calls of the current request, or an empty object if there is none."""
    return current_calls.get() or RequestCalls()

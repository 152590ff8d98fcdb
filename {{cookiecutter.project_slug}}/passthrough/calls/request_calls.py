"""The calls to Flyte of one request, and their limits."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from flyte import remote

from ..limits import limits
from .deadline import Deadline
from .errors import TooLargeError
from .large_messages import LargeMessages


class RequestCalls:
    """One request's open calls to Flyte, their limits, and the tasks fetched for it."""

    def __init__(
        self,
        timeout: float = 30.0,
        request_id: str | None = None,
        deadline: Deadline | None = None,
    ) -> None:
        """Begin a request.

        Args:
            timeout: Seconds to wait for the answer to a call, or for the first message of a watch.
            request_id: Sent to Flyte.
            deadline: Of the request; default: none.
        """
        self.timeout = timeout
        self.request_id, self.deadline = request_id, deadline or Deadline()
        self.tasks: dict[Any, remote.TaskDetails] = {}
        self.seconds = 0.0
        """Total time spent in calls with a single answer."""
        self.run = ""
        """The name of the run that the request has started last."""
        self.subject: str | None = None
        """Flyte's identifier of the caller, if the endpoint has looked it up."""
        self.large_messages = LargeMessages()
        self.left_out = 0
        """How many entries of lists are not shown, because they are too large."""
        self.pages = self.page_size = 0
        """How many pages of lists have been read, and of which size, if not as large as wanted."""
        self._bytes = 0
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

    def spend(self, size: int) -> None:
        """Charge bytes that Flyte has sent to the request; if negative, give them back.

        Raises:
            TooLargeError: They are more than `Limits.request_bytes` since the last `reset`.
        """
        self._bytes = max(0, self._bytes + size)
        if self._bytes > limits().request_bytes:
            raise TooLargeError(f"Flyte sent more than {limits().request_bytes} bytes for this")

    def reset(self) -> None:
        """Begin to count anew, since something is sent to the client."""
        self._bytes = 0
        self.large_messages.release()

    def end(self) -> None:
        """Cancel open calls, and refuse new ones."""
        self.has_ended = True
        self.large_messages.end()
        for task in filter(None, {*self._open}):
            with suppress(RuntimeError):  # its event loop is closed
                task.get_loop().call_soon_threadsafe(task.cancel)


current_calls: ContextVar[RequestCalls | None] = ContextVar("current_calls", default=None)
"""The calls of the current request."""


def request_calls() -> RequestCalls:
    """Return the calls of the current request, or an empty object if there is none."""
    calls = current_calls.get()
    if not calls:
        calls = RequestCalls()
        calls.large_messages.end()  # nothing tells when a message has been used
    return calls

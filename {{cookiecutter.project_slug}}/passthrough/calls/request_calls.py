"""The calls to Flyte of one request, and how much time they have."""

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from typing import Any, TypeVar

import anyio
from flyte import remote

from .caller import Sender
from .received import Received

T = TypeVar("T")

CALLS = 2
"""How many calls to Flyte, each as slow as it may be, a request has time for."""


class Deadline:
    """The time by which the response to a request must have begun.

    A call to Flyte may take ``FLYTE_TIMEOUT``, and a response twice that to begin. The time begins
    anew with each part of a body before its last, and when a run is started, because the caller
    must learn that it was. The deadline is removed when the app begins its response, also if that
    is an event stream, or when an agent's tool call makes a request of its own.
    """

    def __init__(self, timeout: float = 30.0, scope: anyio.CancelScope | None = None) -> None:
        """Begin now, with Flyte's timeout in seconds, for what runs in the scope.

        Without a scope there is no deadline, and no event loop is needed.
        """
        self.timeout = timeout
        """Seconds to wait for the answer to a call, or for the first message of a watch."""
        self._scope, self._loop = scope, asyncio.get_running_loop() if scope else None
        if scope:
            scope.deadline = anyio.current_time() + CALLS * timeout

    def seconds_left(self) -> float:
        """Return the seconds that are left; without a deadline, infinity."""
        return self._scope.deadline - self._loop.time() if self._scope and self._loop else math.inf

    def extend(self) -> None:
        """Leave as much time as at the beginning, if any is left. May be called in any thread."""
        if self._loop:
            self._loop.call_soon_threadsafe(self._begin_again)

    def _begin_again(self) -> None:
        if 0 < self.seconds_left() < math.inf and self._scope and self._loop:
            self._scope.deadline = self._loop.time() + CALLS * self.timeout

    def remove(self) -> None:
        """Have no deadline from here on."""
        if self._scope:
            self._scope.deadline = math.inf


class RequestCalls:
    """One request's open calls to Flyte, what they have received, and how much time they have."""

    def __init__(self, deadline: Deadline | None = None, request_id: str | None = None) -> None:
        """Begin a request; the ``request_id`` is sent to Flyte. By default it has no deadline."""
        self.deadline, self.request_id = deadline or Deadline(), request_id
        self.sender = Sender()
        self.received = Received(self.sender)
        self.fetched_tasks: dict[Any, remote.TaskDetails] = {}
        self.seconds = 0.0
        """Total time spent in calls with a single answer."""
        self.left_out = 0
        """How many entries of lists are not shown, because they are too large."""
        self.run = ""
        """The name of the run that the request has started last."""
        self.has_ended = False
        self._open: list[tuple[asyncio.AbstractEventLoop, Callable[[], object]]] = []

    @contextmanager
    def include(self) -> Iterator[None]:
        """Cancel the current task if the request ends while it is in the block.

        Raises:
            asyncio.CancelledError: The request has ended, or its deadline has passed.
        """
        task = asyncio.current_task()
        with self._ending(task.cancel if task else lambda: None):
            # Only now: it may end in another thread at any time.
            if self.has_ended or self.deadline.seconds_left() < 0:
                raise asyncio.CancelledError("the request that made this call to Flyte has ended")
            yield

    @asynccontextmanager
    async def closing(self, messages: AsyncGenerator[T]) -> AsyncGenerator[AsyncGenerator[T]]:
        """Close a stream after the block, or if the request ends while nobody is reading it."""

        async def close() -> None:
            with suppress(RuntimeError):  # it is being read: `include` cancels the reader
                await messages.aclose()

        with self._ending(lambda: asyncio.create_task(close())):
            async with aclosing(messages):
                yield messages

    @contextmanager
    def _ending(self, end: Callable[[], object]) -> Iterator[None]:
        """While in the block, `end` also calls this, in the event loop that has entered it."""
        self._open.append(entry := (asyncio.get_running_loop(), end))
        try:
            yield
        finally:
            self._open.remove(entry)

    def has_sent(self) -> None:
        """Count anew what Flyte sends: something is sent to the client."""
        self.received.bytes = 0
        self.received.release()

    def end(self) -> None:
        """Cancel open calls, and refuse new ones."""
        self.has_ended = True
        self.received.end()
        for loop, end in {*self._open}:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(end)


current_calls: ContextVar[RequestCalls | None] = ContextVar("current_calls", default=None)
"""The calls of the current request."""


def request_calls() -> RequestCalls:
    """Return the calls of the current request, or an empty object if there is none."""
    calls = current_calls.get()
    if not calls:
        calls = RequestCalls()
        calls.received.end()  # nothing tells when a message has been used
    return calls

"""The state of one request: caller, deadline, open calls to Flyte, and received bytes."""

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING

from ..limits import limits
from .sdk import MessageTooLargeError, TooLargeError
from .slots import MemorySlot

if TYPE_CHECKING:
    from ..models import Caller
    from ..settings import Settings

CALLS_PER_RESPONSE = 2  # a response must begin within the timeout of this many calls to Flyte
called_at_stop = dict[Callable[[], object], asyncio.AbstractEventLoop]()
"""Functions to call at a shutdown, with their event loops. Each ends a request or a long wait."""


class Deadline:
    """The time by which the response must begin: twice the timeout of a call to Flyte.

    The time starts again when a part of a body arrives, unless it is the last part. It also starts
    again when the request starts a run, because the caller must learn the name of the run. When the
    response begins, the deadline is removed. Afterwards, there is a deadline only while the request
    holds a memory slot. If an agent calls a tool, only the inner request has a deadline.
    """

    def __init__(self, timeout: float = 30.0, end: Callable[[], object] | None = None) -> None:
        """Begin now.

        Args:
            timeout: Seconds until a call to Flyte must return a response, or a watch must return
                the first message.
            end: The function to call when the deadline passes. Without it, there is no deadline.
        """
        self.timeout, self._end = timeout, end
        self.loop = asyncio.get_running_loop() if end else None
        self._timer: asyncio.TimerHandle | None = None
        self.begin(CALLS_PER_RESPONSE * timeout)

    def begin(self, seconds: float) -> None:
        """Replace the deadline by a deadline in this many seconds."""
        self.remove()
        if self.loop and self._end:
            self._timer = self.loop.call_later(seconds, self._end)

    def seconds_left(self) -> float:
        """Return the seconds until the deadline, or infinity if there is no deadline."""
        return self._timer.when() - self.loop.time() if self._timer and self.loop else math.inf

    def extend(self) -> None:
        """Start the time again, unless the deadline has passed. Any thread may call this method."""
        if self.loop:
            self.loop.call_soon_threadsafe(self._extend)

    def _extend(self) -> None:
        if 0 < self.seconds_left() < math.inf:
            self.begin(CALLS_PER_RESPONSE * self.timeout)

    def replace(self, seconds: float) -> None:
        """Start the time again; allow ``seconds`` for the response, and half of that for a call."""
        self.timeout = seconds / CALLS_PER_RESPONSE
        self.begin(seconds)

    def remove(self) -> None:
        """Remove the deadline."""
        if self._timer:
            self._timer.cancel()
        self._timer = None

    @property
    def has_ended(self) -> bool:
        """Whether the request has ended. Outside of a request, this is true."""
        return self._end is None

    def end(self) -> None:
        """Remove the deadline, because the request ends."""
        self.remove()
        self._end = None  # break the reference cycle with the `Cancellation` of this request


class CallerState:
    """The credentials of a request, and the identity of the caller if the app knows it."""

    def __init__(self) -> None:
        self.credentials: tuple[tuple[str, str], ...] = ()  # credential headers of the request
        self.secrets: tuple[object, list[str]] = ((), [])  # a cache of `redact`
        self.hash: str | None = None  # None on public paths
        self.identity: Caller | None = None  # None until the request has fetched the identity
        self.subject = ""  # empty until this or an earlier request has fetched the subject


class OpenCalls:
    """The open calls to Flyte of one request, which end with the request."""

    def __init__(self, deadline: Deadline) -> None:
        self.seconds = 0.0  # total time of unary calls
        self.has_ended = False
        self._deadline = deadline
        self._at_end: list[tuple[asyncio.AbstractEventLoop, Callable[[], object]]] = []

    def cancel_task_at_end(self) -> AbstractContextManager[None]:
        """Cancel the current task if the request ends while the task is in the ``with`` block."""
        task = asyncio.current_task()
        assert task
        return self.call_at_end(task.cancel)

    @contextmanager
    def call_at_end(self, call: Callable[[], object]) -> Iterator[None]:
        """Register a function, which `end` calls if the ``with`` block is still running.

        The function runs in the event loop of the block.

        Raises:
            CancelledError: The request has ended.
        """
        self._at_end.append(entry := (asyncio.get_running_loop(), call))
        try:
            # Check after registration, because another thread may end the request in between.
            if self.has_ended or self._deadline.seconds_left() < 0:
                raise asyncio.CancelledError("the request that made this call to Flyte has ended")
            yield
        finally:
            self._at_end.remove(entry)

    def end(self) -> None:
        """Cancel open calls, and refuse new calls."""
        self.has_ended = True
        for loop, call in {*self._at_end}:  # a set, because a task may be in two nested blocks
            with suppress(RuntimeError):  # raised if the loop is closed
                loop.call_soon_threadsafe(call)


class RequestState:
    """The state of one request, for all modules. `this_request` returns the current state."""

    settings: "Settings"  # the settings of the app that serves the request

    def __init__(
        self,
        deadline: Deadline | None = None,
        request_id: str = "",
        settings: "Settings | None" = None,
    ) -> None:
        """Begin a request, by default without a deadline. Flyte receives the ``request_id``."""
        if settings:
            self.settings = settings
        self.deadline, self.request_id = deadline or Deadline(), request_id
        self.caller, self.calls = CallerState(), OpenCalls(self.deadline)
        self.message_slot = MemorySlot("max_large_messages", self.deadline)
        self.body_slot = MemorySlot("max_large_bodies", self.deadline)
        self.received = 0  # bytes from Flyte since the app last sent something to the client
        self.omitted_count = 0  # number of list entries that were too large and are omitted
        self.run = ""  # the name of the last run that the request has started

    def receive(self, size: int, max_bytes: int) -> None:
        """Count the bytes of a message, which may have up to ``max_bytes``.

        Raises:
            TooLargeError: The message is too large, or all messages together are too large.
        """
        if size > max_bytes:
            raise MessageTooLargeError(f"a message has more than {max_bytes} bytes")
        if self.received + size > (max_received := limits().max_received_bytes):
            raise TooLargeError(f"the messages from Flyte have more than {max_received} bytes")
        self.received += size

    def release_messages(self) -> None:
        """Free the messages from Flyte, because the app has used them."""
        self.received = 0
        self.message_slot.release()

    def end(self) -> None:
        """End the request, including its calls in threads, because the app has returned."""
        # End the deadline first. If a thread acquires a slot later, `MemorySlot` then releases it.
        self.deadline.end()
        self.calls.end()
        self.message_slot.release()
        self.body_slot.release()


current_request: ContextVar[RequestState | None] = ContextVar("current_request", default=None)


def this_request() -> RequestState:
    """Return the state of the current request, or an empty state outside of a request."""
    return current_request.get() or RequestState()

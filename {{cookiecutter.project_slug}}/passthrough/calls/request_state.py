"""The state of one request: caller, deadline, open calls to Flyte, and received bytes."""

import asyncio
import logging
import math
import sys
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

logger = logging.getLogger(__name__)

CALLS_PER_RESPONSE = 2  # the default deadline is this many times the timeout of a call to Flyte
called_at_stop = dict[Callable[[], object], asyncio.AbstractEventLoop]()
"""The app calls these functions at shutdown, each in its event loop. Each function ends a request
or a wait."""


class Deadline:
    """The time by which the response must begin.

    By default, the time limit is twice the timeout of a call to Flyte. The time starts again when a
    part of the request body arrives, except for the last part. The time also starts again when the
    request starts a run, because the caller must learn the name of the run.

    When the response begins, the app removes the deadline. A stream has a new deadline while it
    holds a memory slot. If an agent calls a tool, the app removes the deadline of the agent's
    request, because the tool makes an inner request with its own deadline.
    """

    def __init__(self, timeout: float = 30.0, end: Callable[[], object] | None = None) -> None:
        """Set the deadline to twice ``timeout`` from now, unless ``end`` is None.

        Args:
            timeout: Timeout of a call to Flyte, in seconds. In a stream of messages, the timeout
                applies only to the first message.
            end: The function to call when the deadline passes. None means that there is no
                deadline.
        """
        self.timeout, self._end = timeout, end
        self.loop = asyncio.get_running_loop() if end else None
        self._timer: asyncio.TimerHandle | None = None
        self.begin(CALLS_PER_RESPONSE * timeout)

    def begin(self, seconds: float) -> None:
        """Set the deadline to ``seconds`` from now."""
        self.remove()
        if self.loop and self._end:
            self._timer = self.loop.call_later(seconds, self._end)

    def seconds_left(self) -> float:
        """Return the seconds until the deadline, or infinity if there is no deadline."""
        return self._timer.when() - self.loop.time() if self._timer and self.loop else math.inf

    def extend(self) -> None:
        """Set the deadline to twice the timeout from now, unless the deadline has passed.

        Any thread may call this method.
        """
        if self.loop:
            self.loop.call_soon_threadsafe(self._extend)

    def _extend(self) -> None:
        if 0 < self.seconds_left() < math.inf:
            self.begin(CALLS_PER_RESPONSE * self.timeout)

    def replace(self, seconds: float) -> None:
        """Set the deadline to ``seconds`` from now, and the timeout of calls to ``seconds / 2``."""
        self.timeout = seconds / CALLS_PER_RESPONSE
        self.begin(seconds)

    def remove(self) -> None:
        """Remove the deadline."""
        if self._timer:
            self._timer.cancel()
        self._timer = None

    def end(self) -> None:
        """Remove the deadline, because the request ends."""
        self.remove()
        self._end = None  # break the reference cycle of `Deadline` and `Cancellation`


class CallerState:
    """The credentials of a request, and the identity of the caller if the app knows it."""

    def __init__(self) -> None:
        self.credentials: tuple[tuple[str, str], ...] = ()  # names and values of headers
        self.secrets: tuple[object, list[str]] = ((), [])  # a cache of `redact`
        self.hash: str | None = None  # None on public paths
        self.identity: Caller | None = None  # None until the request has fetched the identity
        self.subject = ""  # empty until the request has fetched the identity


class OpenCalls:
    """The open calls to Flyte that one request has made. The calls end when the request ends."""

    def __init__(self, deadline: Deadline) -> None:
        self.seconds = 0.0  # total time of unary calls, without the time of waiting for a slot
        self.has_ended = False
        self._deadline = deadline
        self._finished = ""  # method and route, after the app has returned without an error
        self._at_end: list[tuple[asyncio.AbstractEventLoop, Callable[[], object]]] = []

    def cancel_task_at_end(self) -> AbstractContextManager[None]:
        """Cancel the current task if the request ends while the task is in the ``with`` block."""
        task = asyncio.current_task()
        assert task
        return self.call_at_end(task.cancel)

    @contextmanager
    def call_at_end(self, call: Callable[[], object]) -> Iterator[None]:
        """Call ``call`` if the request ends during the ``with`` block.

        ``call`` runs in the event loop of the task that has entered the block.

        Raises:
            CancelledError: The request has ended.
        """
        self._at_end.append(entry := (asyncio.get_running_loop(), call))
        try:
            # Register the function before this check. If another thread ended the request between
            # a check and a later registration, `end` would not call the function.
            if self.has_ended or self._deadline.seconds_left() < 0:
                self._warn_of_late_call()
                raise asyncio.CancelledError("the request that made this call to Flyte has ended")
            yield
        finally:
            self._at_end.remove(entry)

    def end(self, finished: str = "") -> None:
        """Cancel open calls, and refuse new calls.

        Args:
            finished: Method and route of a request that the app has served without an error. If a
                task of this request still calls Flyte, the app logs a warning, because the call has
                no effect.
        """
        if not self.has_ended:
            self._finished = finished
        self.has_ended = True
        for loop, call in {*self._at_end}:  # a set, so that nested blocks cancel a task only once
            task = getattr(call, "__self__", None)
            if isinstance(task, asyncio.Task) and not task.cancelling():
                self._warn_of_late_call()
            with suppress(RuntimeError):  # a closed loop raises it
                loop.call_soon_threadsafe(call)

    def _warn_of_late_call(self) -> None:
        if self._finished:
            logger.warning(
                "%s: a task called Flyte after the response, so the app has cancelled the call:"
                " await the task, or use BackgroundTasks",
                self._finished,
            )


class RequestState:
    """The state of one request. `this_request` returns the state of the current request."""

    settings: "Settings"  # the settings of the app that serves the request

    def __init__(
        self,
        deadline: Deadline | None = None,
        request_id: str = "",
        settings: "Settings | None" = None,
        outer: "RequestState | None" = None,
    ) -> None:
        """Begin a request. By default, the request has no deadline.

        The app sends ``request_id`` to Flyte with each call. For the inner request of a tool call,
        ``outer`` is the agent's request.
        """
        if settings:
            self.settings = settings
        self.deadline, self.request_id = deadline or Deadline(), request_id
        self.caller, self.calls = CallerState(), OpenCalls(self.deadline)
        self.outer = outer
        self.slot: MemorySlot = outer.slot if outer else MemorySlot(self.deadline.loop)
        self.received = 0  # bytes from Flyte since the app last sent a part of the response
        self.omitted_count = 0  # number of list entries that the app omits because of their size
        self.max_page_entries = sys.maxsize  # `_fetch_page` reduces it if a page is too large
        self.run = ""  # the name of the last run that the request has started

    def receive(self, size: int, max_bytes: int) -> None:
        """Count a message of ``size`` bytes from Flyte.

        Raises:
            MessageTooLargeError: The message has more than ``max_bytes``.
            TooLargeError: All messages of the request together are too large.
        """
        if size > max_bytes:
            raise MessageTooLargeError(f"a message has more than {max_bytes} bytes")
        if self.received + size > (max_received := limits().max_received_bytes):
            raise TooLargeError(f"the messages from Flyte have more than {max_received} bytes")
        self.received += size

    def release_messages(self) -> None:
        """Release the memory slot, and set the count of received bytes to zero.

        Call this method when the app no longer needs the messages that it has received. The request
        keeps the slot for a large body.
        """
        self.received = 0
        self.slot.release()

    def hold_body(self) -> None:
        """Keep the memory slot until the response begins, because the request has a large body."""
        self.slot.users.add(self)

    def holds_body(self) -> bool:
        """Return whether the request, or the agent's request, has a large body in memory."""
        return not self.slot.users.isdisjoint((self, self.outer))

    def release_all(self) -> None:
        """Release the memory slot, because the app no longer needs the messages and the body."""
        self.slot.users.discard(self)
        self.release_messages()

    def end(self, finished: str = "") -> None:
        """End the request and its calls to Flyte, including calls in threads.

        Args:
            finished: Method and route, if the app has served the request without an error.
        """
        self.deadline.end()
        self.calls.end(finished)
        self.release_all()
        if not self.outer:
            self.slot.end()


current_request: ContextVar[RequestState | None] = ContextVar("current_request", default=None)


def this_request() -> RequestState:
    """Return the state of the current request, or an empty state outside of a request."""
    return current_request.get() or RequestState()

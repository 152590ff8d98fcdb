"""One request: who has sent it, how much time its calls to Flyte have, what they may receive."""

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

CALLS = 2  # a response may take as long to begin as two calls to Flyte
called_at_stop = dict[Callable[[], object], asyncio.AbstractEventLoop]()
"""Functions that end requests and long waits, called in their loops when the server stops."""


class Deadline:
    """The time by which the response must have begun: twice what a call to Flyte may take.

    It begins anew with each part of a body but the last, and when a run is started, because the
    caller must learn that it was. It is removed when the response begins; afterwards there is one
    only while the request holds a memory slot. An agent's message has none once it calls a tool,
    because the tool call is a request with a deadline of its own.
    """

    def __init__(self, timeout: float = 30.0, end: Callable[[], object] | None = None) -> None:
        """Begin now; ``end`` is called when it passes. Without that, there is no deadline.

        The timeout is for the answer to a call, or for the first message of a watch, in seconds.
        """
        self.timeout, self._end = timeout, end
        self.loop = asyncio.get_running_loop() if end else None
        self._timer: asyncio.TimerHandle | None = None
        self.begin(CALLS * timeout)

    def begin(self, seconds: float) -> None:
        """Have a deadline in this many seconds, instead of any other."""
        self.remove()
        if self.loop and self._end:
            self._timer = self.loop.call_later(seconds, self._end)

    def seconds_left(self) -> float:
        """Return the seconds that are left; without a deadline, infinity."""
        return self._timer.when() - self.loop.time() if self._timer and self.loop else math.inf

    def extend(self) -> None:
        """Leave as much time as at the beginning, if any is left. May be called in any thread."""
        if self.loop:
            self.loop.call_soon_threadsafe(self._extend)

    def _extend(self) -> None:
        if 0 < self.seconds_left() < math.inf:
            self.begin(CALLS * self.timeout)

    def replace(self, seconds: float) -> None:
        """Begin anew, with this much time for the response, and half of it for a call to Flyte."""
        self.timeout = seconds / CALLS
        self.begin(seconds)

    def remove(self) -> None:
        """Have no deadline from here on."""
        if self._timer:
            self._timer.cancel()
        self._timer = None

    def end(self) -> None:
        """Have no deadline any more: the request ends."""
        self.remove()
        self._end = None  # it refers to the request's `Cancellation`, which refers to this


class CallerState:
    """What the app knows of a request's caller."""

    def __init__(self) -> None:
        self.credentials: tuple[tuple[str, str], ...] = ()  # credential headers of the request
        self.secrets: tuple[object, list[str]] = ((), [])  # credentials, and the secrets in them
        self.hash: str | None = None  # None on public paths
        self.identity: Caller | None = None  # if the app has asked Flyte in this request
        self.subject = ""  # if Flyte has told it in this request or an earlier one


class OpenCalls:
    """A request's open calls to Flyte, which end with the request."""

    def __init__(self, deadline: Deadline) -> None:
        self.seconds = 0.0  # in calls with a single answer
        self.has_ended = False
        self._deadline = deadline
        self._at_end: list[tuple[asyncio.AbstractEventLoop, Callable[[], object]]] = []

    def cancel_task_at_end(self) -> AbstractContextManager[None]:
        """Cancel the current task if the request ends while the task is in the block."""
        task = asyncio.current_task()
        assert task
        return self.call_at_end(task.cancel)

    @contextmanager
    def call_at_end(self, call: Callable[[], object]) -> Iterator[None]:
        """While in the block, `end` calls this, in the event loop that entered the block.

        Raises:
            CancelledError: The request has ended.
        """
        self._at_end.append(entry := (asyncio.get_running_loop(), call))
        try:
            # After it was registered: another thread may end the request in between.
            if self.has_ended or self._deadline.seconds_left() < 0:
                raise asyncio.CancelledError("the request that made this call to Flyte has ended")
            yield
        finally:
            self._at_end.remove(entry)

    def end(self) -> None:
        """Cancel open calls, and refuse new ones."""
        self.has_ended = True
        for loop, call in {*self._at_end}:  # once per task, although its entries may nest
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(call)


class RequestState:
    """The facts of one request, for all layers. `this_request` returns it."""

    settings: "Settings"  # of the app that serves the request

    def __init__(
        self,
        deadline: Deadline | None = None,
        request_id: str = "",
        settings: "Settings | None" = None,
    ) -> None:
        """Begin a request, by default without a deadline; Flyte gets the ``request_id``."""
        if settings:
            self.settings = settings
        self.deadline, self.request_id = deadline or Deadline(), request_id
        self.caller, self.calls = CallerState(), OpenCalls(self.deadline)
        self.message_slot = MemorySlot("max_large_messages", self.deadline)
        self.body_slot = MemorySlot("max_large_bodies", self.deadline)
        self.received = 0  # bytes, since something was last sent to the client
        self.omitted_count = 0  # entries of lists, because they are too large
        self.run = ""  # the name of the one that the request has started last

    def receive(self, size: int) -> None:
        """Count the bytes of a message. If they are too many, raise an error instead."""
        allowed = limits()
        if size > allowed.max_message_bytes:
            raise MessageTooLargeError(f"a message has more than {allowed.max_message_bytes} bytes")
        if self.received + size > allowed.max_received_bytes:
            raise TooLargeError(
                f"what was asked for has more than {allowed.max_received_bytes} bytes"
            )
        self.received += size

    def release_messages(self) -> None:
        """Note that the app does not use any more what Flyte has sent so far."""
        self.received = 0
        self.message_slot.release()

    def end(self) -> None:
        """End the calls: the app has returned, also from its threads."""
        self.deadline.end()
        self.calls.end()
        self.message_slot.end()
        self.body_slot.end()


current_request: ContextVar[RequestState | None] = ContextVar("current_request", default=None)


def this_request() -> RequestState:
    """Return the state of the current request, or an empty one if there is none."""
    return current_request.get() or RequestState()

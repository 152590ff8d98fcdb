"""One request: who has sent it, how much time its calls to Flyte have, what they may receive."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import anyio

from ..limits import limits
from .sdk import MessageTooLargeError, TooLargeError
from .turns import LARGE_BYTES, LINE_BYTES, Turn

CALLS = 2  # a response may take as long to begin as so many calls to Flyte
GRACE_SECONDS = 1.0  # after the deadline, until a call ends that a thread waits for
cancelled_at_stop = dict[anyio.CancelScope, asyncio.AbstractEventLoop]()
"""The scopes of streams and long waits. The server would wait for them, and then cut them off."""


class Deadline:
    """The time by which the response must have begun: twice what a call to Flyte may take.

    It begins anew with each part of a body before its last, and when a run is started, because the
    caller must learn that it was. It is removed when the response begins. An agent's message has
    none once it calls a tool: that is a request with a deadline of its own.
    """

    def __init__(self, timeout: float = 30.0, scope: anyio.CancelScope | None = None) -> None:
        """Begin now; the scope is cancelled at the end. Without one, there is no end.

        The timeout is for the answer to a call, or for the first message of a watch, in seconds.
        """
        self.timeout = timeout
        self._scope, self.loop = scope, asyncio.get_running_loop() if scope else None
        if scope and self.loop:
            scope.deadline = self.loop.time() + CALLS * timeout

    def seconds_left(self) -> float:
        """Return the seconds that are left; without a deadline, infinity."""
        return self._scope.deadline - self.loop.time() if self._scope and self.loop else math.inf

    def limit(self, seconds: float) -> asyncio.Timeout:
        """Limit a block to these seconds, and to `GRACE_SECONDS` after the deadline.

        The deadline itself cancels tasks, but neither a thread nor the call for which it waits.
        """
        left = min(seconds, self.seconds_left() + GRACE_SECONDS)
        return asyncio.timeout(left if left < math.inf else None)

    def extend(self) -> None:
        """Leave as much time as at the beginning, if any is left. May be called in any thread."""
        if self.loop:
            self.loop.call_soon_threadsafe(self._begin_again)

    def _begin_again(self) -> None:
        if 0 < self.seconds_left() < math.inf and self._scope and self.loop:
            self._scope.deadline = self.loop.time() + CALLS * self.timeout

    def remove(self) -> None:
        """Have no deadline from here on."""
        if self._scope:
            self._scope.deadline = math.inf


class RequestState:
    """A request's caller, deadline and turn; its open calls to Flyte, and what they received."""

    def __init__(self, deadline: Deadline | None = None, request_id: str = "") -> None:
        """Begin a request, by default without a deadline; Flyte gets the ``request_id``."""
        self.deadline, self.request_id = deadline or Deadline(), request_id
        self.credentials: tuple[tuple[str, str], ...] = ()  # its headers that have some
        self.secrets: tuple[object, list[str]] = ((), [])  # in which credentials, and which
        self.turn = Turn(self.deadline.loop)
        self.caller: Any = None  # what Flyte has told of the person, if the app has asked
        self.received = 0  # bytes, since something was last sent to the client
        self.seconds = 0.0  # in calls with a single answer
        self.left_out = 0  # entries of lists, because they are too large
        self.run = ""  # the name of the one that the request has started last
        self.has_ended = False
        self._open: list[tuple[asyncio.AbstractEventLoop, Callable[[], object]]] = []

    def receive(self, size: int) -> None:
        """Count the bytes of a message. If they are too many, raise an error instead."""
        allowed = limits()
        if size > allowed.answer_bytes:
            raise MessageTooLargeError(f"a message has more than {allowed.answer_bytes} bytes")
        if self.received + size > allowed.request_bytes:
            raise TooLargeError(f"what was asked for has more than {allowed.request_bytes} bytes")
        self.received += size

    async def begin_turn(self, size: int) -> None:
        """Wait for the turn, if a message of this size needs it: that is no time of the call's."""
        if size <= LINE_BYTES:
            return
        limit, began = call_limit.get()(), time.perf_counter()
        until = limit.when()
        left = self.deadline.seconds_left() + GRACE_SECONDS
        limit.reschedule(asyncio.get_running_loop().time() + left if left < math.inf else None)
        await self.turn.begin(needs_place=size > LARGE_BYTES)
        waited = time.perf_counter() - began
        limit.reschedule(until + waited if until else None)
        self.seconds -= waited

    @contextmanager
    def include(self) -> Iterator[None]:
        """Cancel the current task if the request has ended, or ends while it is in the block."""
        task = asyncio.current_task()
        with self.at_end(task.cancel if task else lambda: None):
            # After it was registered: another thread may end the request in between.
            if self.has_ended or self.deadline.seconds_left() < 0:
                raise asyncio.CancelledError("the request that made this call to Flyte has ended")
            yield

    @asynccontextmanager
    async def closing(self, messages: AsyncGenerator[Any]) -> AsyncGenerator[AsyncGenerator[Any]]:
        """Close a stream after the block, or if the request ends while nobody is reading it."""

        async def close() -> None:
            with suppress(RuntimeError):  # it is being read: `include` cancels the reader
                await messages.aclose()

        with self.at_end(lambda: asyncio.create_task(close())):
            async with aclosing(messages):
                yield messages

    @contextmanager
    def at_end(self, call: Callable[[], object]) -> Iterator[None]:
        """While in the block, `end_calls` calls this, in the event loop that entered the block."""
        self._open.append(entry := (asyncio.get_running_loop(), call))
        try:
            yield
        finally:
            self._open.remove(entry)

    def done_with_messages(self) -> None:
        """Count anew what Flyte sends, and end the turn: what has come was sent, or is not used."""
        self.received = 0
        self.turn.let_go()

    def end_calls(self) -> None:
        """Cancel open calls, and refuse new ones."""
        self.has_ended = True
        for loop, call in {*self._open}:  # once per task, although its entries may nest
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(call)

    def end(self) -> None:
        """End the calls, and the turn: the app has returned, also from its threads."""
        self.end_calls()
        self.turn.end()


current_request: ContextVar[RequestState | None] = ContextVar("current_request", default=None)
call_limit: ContextVar[Any] = ContextVar("call_limit")
"""A weak reference to the time limit of the current call to Flyte, which keeps its task."""


def this_request() -> RequestState:
    """Return the state of the current request, or an empty one if there is none."""
    state = current_request.get()
    if not state:
        state = RequestState()
        state.turn.end()  # outside of a request, nothing would end a turn
    return state

"""One request's calls to Flyte: how much time they have, and how much they may receive."""

import asyncio
import gc
import math
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import anyio

from ..limits import limits
from .sdk import MessageTooLargeError, TooLargeError

CALLS = 2  # a response may take as long to begin as so many calls to Flyte
GRACE_SECONDS = 1.0  # after the deadline, until a call ends that a thread waits for
LARGE_BYTES = 256 * 1024  # of a message
cancelled_at_stop = set[anyio.CancelScope]()
"""The scopes of streams and long waits. The server would wait for them, and then cut them off."""


@dataclass
class Sender:
    """Who has sent a request, as far as that is known."""

    credentials: tuple[tuple[str, str], ...] = ()  # the headers that are forwarded
    short_hash: str | None = None  # of the credentials; another one after each start of the app
    subject: str | None = None  # Flyte's identifier of the person, if the endpoint has asked


class Deadline:
    """The time by which the response must have begun: twice what a call to Flyte may take.

    It begins anew with each part of a body before its last, and when a run is started, because the
    caller must learn that it was. It is removed when the response begins, also if that is an event
    stream, or when an agent's tool call makes a request of its own.
    """

    def __init__(self, timeout: float = 30.0, scope: anyio.CancelScope | None = None) -> None:
        """Begin now; the scope is cancelled at the end. Without one, there is no end.

        The timeout is for the answer to a call, or for the first message of a watch, in seconds.
        """
        self.timeout = timeout
        self._scope, self._loop = scope, asyncio.get_running_loop() if scope else None
        if scope:
            scope.deadline = anyio.current_time() + CALLS * timeout

    def seconds_left(self) -> float:
        """Return the seconds that are left; without a deadline, infinity."""
        return self._scope.deadline - self._loop.time() if self._scope and self._loop else math.inf

    def limit(self, seconds: float) -> asyncio.Timeout:
        """Limit a block to these seconds, and to `GRACE_SECONDS` after the deadline.

        At the deadline itself, tasks are cancelled, but no thread and no call that it waits for.
        """
        left = min(seconds, self.seconds_left() + GRACE_SECONDS)
        return asyncio.timeout(left if left < math.inf else None)

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


class Turns:
    """Turns at what few requests may do at once, in each event loop.

    The requests of a caller queue behind each other, and the first of each caller waits for a turn:
    a caller with many requests delays another by one of them.
    """

    def __init__(self) -> None:
        self._free = WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]()
        self._lines = WeakValueDictionary[tuple[int, str | None], asyncio.Lock]()

    async def begin(self, at_once: int, caller: str | None) -> Callable[[], None]:
        """Wait for one of so many turns, and return what ends it, in any thread."""
        loop = asyncio.get_running_loop()
        free = self._free.setdefault(loop, asyncio.Semaphore(at_once))
        line = self._lines.setdefault((id(loop), caller), asyncio.Lock())
        async with line:
            await free.acquire()
        turns = [free]

        def end() -> None:
            while turns:
                with suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(turns.pop().release)

        return end


_turns = Turns()


class Received:
    """Counts what one request has received, and has its turns to read large messages.

    A decoded message may take 60 times its size in memory. So in each event loop (the SDK has one
    of its own for calls from threads) one request at a time holds a large message. It keeps its
    turn until it makes a call, sends something, or ends. If another of its calls waits, it gives
    the turn back after reading. Nobody waits for a call while having a turn: no deadlock.
    """

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self.bytes = 0  # since something was last sent to the client
        self._kept: list[Callable[[], None]] = []
        self._waiting = 0
        self._has_had_a_turn = self._has_ended = False

    def add(self, size: int) -> None:
        """Count the bytes of a message. If they are too many, raise an error instead."""
        allowed = limits()
        if size > allowed.answer_bytes:
            raise MessageTooLargeError(f"a message has more than {allowed.answer_bytes} bytes")
        if self.bytes + size > allowed.request_bytes:
            raise TooLargeError(f"what was asked for has more than {allowed.request_bytes} bytes")
        self.bytes += size

    @asynccontextmanager
    async def turn(self, size: int) -> AsyncGenerator[None]:
        """Wait until a message of this size may be read, in the block; it may be in any thread."""
        if size <= LARGE_BYTES:
            yield
            return
        self.release()
        self._waiting += 1
        try:
            end_turn = await _turns.begin(1, self._sender.short_hash)
        finally:
            self._waiting -= 1
        self._has_had_a_turn = True
        try:
            yield
        finally:
            self._kept.append(end_turn)  # only now: `release` ends no turn of what is being read
            if self._waiting or self._has_ended:
                self.release()

    def release(self) -> None:
        """End the turns that are kept: the messages have been used."""
        while self._kept:
            self._kept.pop()()

    def end(self) -> None:
        """End the turns that are kept, and keep none from now on."""
        self._has_ended = True
        self.release()
        # A stream that is left while its endpoint is at a `yield` is in a cycle of anyio's, with
        # the message that it was reading.
        if self._has_had_a_turn:
            asyncio.get_running_loop().call_later(1.0, gc.collect)


class RequestState:
    """One request's open calls to Flyte, what they have received, and how much time they have."""

    def __init__(self, deadline: Deadline | None = None, request_id: str = "") -> None:
        """Begin a request, by default without a deadline; Flyte gets the ``request_id``."""
        self.deadline, self.request_id = deadline or Deadline(), request_id
        self.sender = Sender()
        self.received = Received(self.sender)
        self.seconds = 0.0  # in calls with a single answer
        self.left_out = 0  # entries of lists, because they are too large
        self.run = ""  # the name of the one that the request has started last
        self.has_ended = False
        self._open: list[tuple[asyncio.AbstractEventLoop, Callable[[], object]]] = []

    @contextmanager
    def include(self) -> Iterator[None]:
        """Cancel the current task if the request has ended, or ends while it is in the block."""
        task = asyncio.current_task()
        with self._ending(task.cancel if task else lambda: None):
            # Only now: it may end in another thread at any time.
            if self.has_ended or self.deadline.seconds_left() < 0:
                raise asyncio.CancelledError("the request that made this call to Flyte has ended")
            yield

    @asynccontextmanager
    async def closing(self, messages: AsyncGenerator[Any]) -> AsyncGenerator[AsyncGenerator[Any]]:
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

    def sent_something(self) -> None:
        """Count anew what Flyte sends: something is sent to the client."""
        self.received.bytes = 0
        self.received.release()

    def end(self) -> None:
        """Cancel open calls, and refuse new ones."""
        self.has_ended = True
        self.received.end()
        for loop, end in {*self._open}:  # once per task, although its entries may nest
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(end)


current_request: ContextVar[RequestState | None] = ContextVar("current_request", default=None)


def this_request() -> RequestState:
    """Return the calls of the current request, or an empty object if there is none."""
    calls = current_request.get()
    if not calls:
        calls = RequestState()
        calls.received.end()  # nothing tells when a message has been used
    return calls

"""What comes from Flyte for a request: it is counted, and what is large waits."""

import asyncio
import gc
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress

from ..limits import limits
from .caller import Sender
from .errors import MessageTooLargeError, TooLargeError
from .turns import Turns

LARGE_BYTES = 256 * 1024
"""A message with more bytes than this is large."""

_turns = Turns()


class Received:
    """Counts what one request has received, and has its turns to read large messages.

    A decoded message may take 60 times its size in memory. So in each event loop, one request at a
    time may hold a large message: from reading it until it calls Flyte again, sends something to
    its client, or ends; or only while reading it, if another call of the request waits for a turn.
    The SDK has a loop of its own for calls from threads, so at most two large messages are in
    memory at once, besides those that an endpoint keeps for longer.

    Turns are given back before waiting, so there is no deadlock.
    """

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self.bytes = 0
        """How many have come since something was last sent to the client."""
        self._kept: list[Callable[[], None]] = []
        self._waiting = 0
        self._has_had_a_turn = self._has_ended = False

    def add(self, size: int) -> None:
        """Count the bytes of a message.

        Raises:
            TooLargeError: With them it would be more than `Limits.request_bytes`. They don't count.
        """
        if self.bytes + size > (most := limits().request_bytes):
            raise TooLargeError(f"what was asked for has more than {most} bytes")
        self.bytes += size

    @asynccontextmanager
    async def turn(self, size: int) -> AsyncGenerator[None]:
        """Wait until a message of this size may be read, in the block; it may be in any thread.

        Raises:
            MessageTooLargeError: It may never be read.
        """
        check_size(size)
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
            # Another call of this request may be waiting: it would wait for this one for ever.
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
            with suppress(RuntimeError):  # there is no loop here
                asyncio.get_running_loop().call_later(1.0, gc.collect)


def check_size(size: int) -> None:
    """Check the size of a message, in bytes.

    Raises:
        MessageTooLargeError: It is too large to be read.
    """
    if size > (most := limits().answer_bytes):
        raise MessageTooLargeError(f"a message has more than {most} bytes")

"""What a client sends, and whether it is still there."""

import asyncio
from collections.abc import Callable
from typing import Literal

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from ..limits import MAX_UNREAD_MESSAGES, MAX_UNREAD_SECONDS

READ_AHEAD_AFTER = 1.0  # seconds; few requests take that long


class Incoming:
    """The messages of a request, or of a WebSocket.

    Servers report that the client has left only if somebody receives. So messages are read ahead:
    of a request that takes long, and of a WebSocket that is accepted. When the client leaves, calls
    to Flyte end, and a request is cancelled unless it is receiving and gets the message.
    """

    def __init__(
        self, receive: Receive, is_http: bool, max_bytes: int, on_leaving: Callable[[], None]
    ) -> None:
        """Begin.

        Args:
            receive: The server's.
            is_http: False for a WebSocket.
            max_bytes: The largest body.
            on_leaving: Called when the client has left, or cannot be heard any more.
        """
        self._receive, self._is_http, self._max_bytes = receive, is_http, max_bytes
        self._on_leaving = on_leaving
        self.ended_by: Literal["left", "unread"] | None = None
        """That the client has left, or that nobody reads what it sends to a WebSocket."""
        self.cancel_scope = asyncio.timeout(None)
        """To be entered around the request, which is cancelled by making it expire."""
        self._size = 0
        self._unread = asyncio.Queue[Message](MAX_UNREAD_MESSAGES)
        self._is_receiving = self._reads_ahead = self._is_stopped = False
        self._reading: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(READ_AHEAD_AFTER, self.read_ahead) if is_http else None

    async def receive(self) -> Message:
        """Receive a message for the app.

        Raises:
            HTTPException: The body is too large. The next call receives the next message.
        """
        self._is_receiving = True
        try:
            message = await (self._unread.get() if self._reading else self._next())
        finally:
            self._is_receiving = False
            if self._reads_ahead:
                self.read_ahead()
        if message["type"] == "http.disconnect" and self._reading:
            # As servers do: every later receive() returns http.disconnect again.
            self._unread.put_nowait(message)
        if message["type"] != "http.request":
            return message
        self.check_size(self._size)
        return {**message, "body": bytes(message.get("body", b""))}

    def check_size(self, size: int) -> None:
        """Check the size of the body, or of its part that has arrived.

        Raises:
            HTTPException: It is too large.
        """
        if size > self._max_bytes:
            raise HTTPException(
                413, f"the body of a request may have up to {self._max_bytes} bytes"
            )

    def read_ahead(self) -> None:
        """Read messages from here on, whether or not the app receives them."""
        self._reads_ahead = True
        # Only one task may call the server's receive(): an app that does so gets its message first.
        if not (self._reading or self._is_receiving or self._is_stopped):
            self._reading = asyncio.create_task(self._read())

    def stop(self) -> None:
        """Read no more, and let the request go on if the client leaves."""
        self._is_stopped = True
        if self._timer:
            self._timer.cancel()
        if self._reading:
            self._reading.cancel()
            self._reading = None

    async def _next(self) -> Message:
        message = await self._receive()
        self._size += len(message.get("body", b""))
        if self._size > self._max_bytes:  # `receive` refuses it; until then it takes no memory
            message = {**message, "body": b""}
        if message["type"].endswith(".disconnect"):
            # The calls end now: the request can't end while one of its threads waits for them.
            self._end("left")
        return message

    async def _read(self) -> None:
        kind = ""
        while not kind.endswith(".disconnect"):
            kind = (message := await self._next())["type"]
            if kind == "http.request":
                # Join the chunks: a million one-byte messages are one queue entry.
                body = bytearray() if self._unread.empty() else self._unread.get_nowait()["body"]
                body += message.get("body", b"")
                message = {**message, "body": body}
            try:
                async with asyncio.timeout(MAX_UNREAD_SECONDS):
                    await self._unread.put(message)
            except TimeoutError:
                # While a message waits to be read, nothing would report that the client leaves.
                self._end("unread")
                self._cancel()
                return
        if self._is_http and not self._is_receiving:
            self._cancel()

    def _end(self, cause: Literal["left", "unread"]) -> None:
        if not self._is_stopped:
            self.ended_by = cause
            self._on_leaving()

    def _cancel(self) -> None:
        if not self.cancel_scope.expired():
            self.cancel_scope.reschedule(asyncio.get_running_loop().time())

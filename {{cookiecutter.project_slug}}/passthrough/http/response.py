"""Sends responses, delays the start of event streams, and disconnects slow clients."""

import asyncio
from collections.abc import Iterator

from anyio.lowlevel import checkpoint_if_cancelled
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message, Send

from .cancellation import Cancellation
from .headers import EVENT_STREAM, ResponseHeaders

UNREAD_SECONDS = 10.0  # seconds in which a client must read one piece of a large body
PIECE_BYTES = 64 * 1024  # a larger body is sent in pieces
SSE_RETRY = b"retry: 1000\n\n"
"""`SSE_RETRY` ends an incomplete event stream, so that the client reconnects after 1,000 ms."""


class EventStream:
    """An event stream (SSE) as a response.

    `EventStream` sends the start of the response, with the status, only when the endpoint sends the
    first event. If the endpoint fails before the first event, for example because the run does not
    exist, the response has the status of the error. When the app returns, the stream remains open,
    so that `RequestMiddleware` can send an error as the last event.
    """

    def __init__(self, start: Message, send: Send) -> None:
        self._start: Message | None = start  # None when the start has been sent
        self._send = send

    async def send(self, body: bytes, *, is_end: bool = False) -> None:
        """Send events. If ``is_end`` is true, end the stream after the events."""
        if not (body or is_end):
            return
        if start := self._start:
            self._start = None
            await self._send(start)
        await self._send({"type": "http.response.body", "body": body, "more_body": not is_end})


class ResponseSender:
    """Sends a response to the client.

    This class sends a large body in pieces, and disconnects a client that does not read a piece in
    time.
    """

    def __init__(self, send: Send, headers: ResponseHeaders, cancellation: Cancellation) -> None:
        self.status = 0  # the HTTP status; 0 before the response has begun
        self.events: EventStream | None = None
        self._send, self._headers, self._cancellation = send, headers, cancellation

    async def send(self, message: Message) -> None:
        """Send an ASGI message of the app.

        Raises:
            ClientDisconnect: The client has disconnected.
            HTTPException: Starlette has started a plain-text response with the status 413. The app
                sends a problem response (RFC 9457) instead.
        """
        self._cancellation.state.received = 0
        if message["type"] == "http.response.start":
            message = await self._begin(message)
            if self.events:
                return
        elif not message.get("more_body"):
            self._cancellation.is_complete = True
        if self.events:
            await self.events.send(message.get("body", b""))
        else:
            await self._send_in_pieces(message)

    async def _begin(self, start: Message) -> Message:
        state = self._cancellation.state
        if self._cancellation.reason:
            # Do not send a response that a cancelled app begins, because it may be incomplete.
            await checkpoint_if_cancelled()
        content_type = dict(start.get("headers", ())).get(b"content-type", b"")
        if start["status"] == 413 and content_type.startswith(b"text/plain"):
            raise HTTPException(413, "Content Too Large")
        start = self._headers.add(start, state)
        state.deadline.remove()
        state.release_all()
        self.events = None
        if content_type.startswith(EVENT_STREAM):
            self.events = EventStream(start, self._send_in_pieces)
            self._cancellation.stop_seconds = 0.0
        return start

    async def _send_in_pieces(self, message: Message) -> None:
        self.status = message.get("status", self.status)
        try:
            if len(message.get("body", b"")) <= PIECE_BYTES and not self._cancellation.reason:
                await self._send(message)
                return
            for piece in _pieces(message):
                async with asyncio.timeout(UNREAD_SECONDS):
                    await self._send(piece)
        except (OSError, RuntimeError) as error:  # TimeoutError is a subclass of OSError
            # If the client has disconnected, uvloop raises a RuntimeError with "closed".
            if isinstance(error, RuntimeError) and "closed" not in str(error):
                raise
            self._cancellation.leave()
            raise ClientDisconnect from None


def _pieces(message: Message) -> Iterator[Message]:
    """Split a message with a large body into messages of at most `PIECE_BYTES`."""
    body, more_body = message.get("body", b""), message.get("more_body", False)
    if len(body) <= PIECE_BYTES:
        yield message
        return
    for start in range(0, len(body), PIECE_BYTES):
        end = start + PIECE_BYTES
        yield {**message, "body": body[start:end], "more_body": more_body or end < len(body)}

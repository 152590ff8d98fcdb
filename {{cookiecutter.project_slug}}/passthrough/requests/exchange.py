"""A request and its response: what the client sends is counted, what the app sends completed."""

import asyncio
from contextlib import suppress

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

STARTS = {"http.response.start", "websocket.http.response.start"}
EVENTS = b"text/event-stream"
LONGEST_HOLD = 1.0  # seconds
NO_CACHE = (b"cache-control", b"no-cache")
"""Set by FastAPI on event streams; replaced, because it lets caches store them."""

Headers = list[tuple[bytes, bytes]]


def too_large(largest_body: int) -> HTTPException:
    """Return the refusal of a body."""
    return HTTPException(413, f"the body of a request may have up to {largest_body} bytes")


class Exchange:
    """A request and its response, or a WebSocket.

    The start of an event stream is held back until its first event, and its end until the
    application has returned, for a second at most: an exception may follow either.
    """

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, *, headers: Headers, largest_body: int
    ) -> None:
        """Begin with a scope of ASGI.

        Args:
            scope: The request's.
            receive: The server's.
            send: The server's.
            headers: Added to the response, if it does not set them itself.
            largest_body: Of the request, in bytes.
        """
        self._receive, self._send, self._headers = receive, send, headers
        self._largest_body, self._size = largest_body, 0
        self.is_http = scope["type"] == "http"
        sent = {name for name, _ in scope["headers"]}
        self.awaits_body = not sent.isdisjoint((b"content-length", b"transfer-encoding"))
        self.status = 0
        self.has_started = self._has_ended = False
        self.deadline: asyncio.Timeout | None = None
        """For the start of the response."""
        self._held: list[Message] | None = None  # a list if the response is an event stream
        self._sending = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._releasing: asyncio.Task[None] | None = None

    async def receive(self) -> Message:
        """Receive a message from the client.

        Raises:
            HTTPException: The body is too large. The next call receives the next message.
        """
        message = await self._receive()
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            if self._size > self._largest_body:
                raise too_large(self._largest_body)
        self.awaits_body = self.awaits_body and message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Send a message to the client, or hold it back."""
        if message["type"] in STARTS:
            message = self._begin(message)
        elif message["type"] == "websocket.accept":
            self.status = 101
            self._keep_deadline()
        if self._held is None:
            await self._pass_on(message)
            return
        if body := message.get("body"):
            await self._release()
            await self._pass_on({"type": "http.response.body", "body": body, "more_body": True})
        if not message.get("more_body"):
            self._held.append({**message, "body": b""})
            loop = asyncio.get_running_loop()
            self._timer = self._timer or loop.call_later(LONGEST_HOLD, self._release_later)

    def _begin(self, start: Message) -> Message:
        self.status = start["status"]
        headers = [header for header in start.get("headers", ()) if header != NO_CACHE]
        sent = dict(headers)
        headers += [header for header in self._headers if header[0] not in sent]
        if self.is_http and sent.get(b"content-type", b"").startswith(EVENTS):
            self._held = []
        self._keep_deadline()
        return {**start, "headers": headers}

    def _keep_deadline(self) -> None:
        if self.deadline and not self.deadline.expired():
            self.deadline.reschedule(None)

    async def _pass_on(self, message: Message) -> None:
        self.has_started = True
        self._has_ended = message["type"] == "http.response.body" and not message.get("more_body")
        try:
            await self._send(message)
        except OSError:
            raise ClientDisconnect from None
        except RuntimeError as error:  # uvicorn and uvloop raise it if the client has left
            if not self.is_http or "closed" in str(error):
                raise ClientDisconnect from None
            raise

    async def _release(self) -> None:
        async with self._sending:
            self.cancel()
            while self._held:
                await self._pass_on(self._held.pop(0))

    def _release_later(self) -> None:
        async def release() -> None:
            with suppress(ClientDisconnect):  # the next message raises it again
                await self._release()

        self._releasing = asyncio.create_task(release())

    async def complete(self) -> None:
        """Send what is held back, once the application has returned.

        Raises:
            ClientDisconnect: It has not answered: the client has left.
        """
        await self._release()
        if self.is_http and not self.has_started:
            raise ClientDisconnect

    async def withdraw(self) -> bool:
        """Forget what is held back; return whether the response is an event stream that goes on.

        After this, messages are sent as they are, and ``has_started`` does not change by itself.
        """
        async with self._sending:
            self.cancel()
            is_stream = self._held is not None and not self._has_ended
            self.deadline = self._held = None
            return is_stream

    def cancel(self) -> None:
        """Send nothing later."""
        if self._timer:
            self._timer.cancel()
            self._timer = None

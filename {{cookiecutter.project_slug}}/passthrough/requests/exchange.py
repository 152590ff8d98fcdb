"""What passes between the server and the app for one request, and when it ends."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from ..calls.request_calls import RequestCalls
from ..limits import MAX_HOLD_SECONDS, MAX_UNREAD_MESSAGES
from ..settings import Settings
from .stopping import stopping

STARTS = {"http.response.start", "websocket.http.response.start"}
EVENTS = b"text/event-stream"
READ_AHEAD_AFTER = 1.0  # seconds; few requests take that long
HEADERS = {
    # A response is for its caller only, so no cache may store it (RFC 9111 5.2.2.5).
    "cache-control": "no-store",
    # Pages load only the app's files and cannot be framed.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
        " font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    ),
    # Pages of other sites cannot embed a response as an image or script, or keep a reference to a
    # window that they open. CORS for trusted origins still works.
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # URLs contain names of runs and tasks, which linked sites must not see.
    "referrer-policy": "no-referrer",
    # Browsers must never run task output as a script or show it as a page.
    "x-content-type-options": "nosniff",
}
"""Added to every response that does not set them itself."""
RAW_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

NO_CACHE = (b"cache-control", b"no-cache")
"""Set by FastAPI on event streams; replaced, because it lets caches store them."""


class Exchange:
    """A request and its response, or a WebSocket.

    Servers report that the client has left only if somebody receives. So messages are read ahead:
    of a request that takes long, and of a WebSocket that is accepted. When the client leaves, calls
    to Flyte end, and a request is cancelled unless it is receiving and gets the message.

    The start of an event stream is held back until its first event, and its end until the app has
    returned, for a second at most: an exception may follow either.
    """

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, settings: Settings, request_id: str
    ) -> None:
        """Begin with a scope of ASGI, and what the server offers with it.

        The response and all calls to Flyte get the ``request_id``.
        """
        self._receive, self._send = receive, send
        self._headers = [*RAW_HEADERS, (b"x-request-id", request_id.encode())]
        self._largest_body, self._size = settings.largest_body, 0
        self.is_http = scope["type"] == "http"
        self.status = 0
        self.has_started = self.has_left = self.is_event_stream = False
        # One call to Flyte may take flyte_timeout; a response may take twice that to start.
        self.deadline = asyncio.timeout(2 * settings.flyte_timeout)
        self.present = asyncio.timeout(None)
        """Expires when the client leaves, or when the viewer of events should reconnect."""
        self.calls = RequestCalls(
            settings.flyte_timeout, settings.flyte_data_addresses, request_id, self.deadline
        )
        self._is_receiving = False  # the app
        self._unread = asyncio.Queue[Message](MAX_UNREAD_MESSAGES)
        self._reading: asyncio.Task[None] | None = None
        self._may_read_ahead = self.is_http
        self._start: Message | None = None  # held back
        self._is_whole = self._has_ended = False  # an event stream, for the app and the client
        self._sending = asyncio.Lock()
        loop = asyncio.get_running_loop()
        self._late = loop.call_later(READ_AHEAD_AFTER, self._read_ahead)

    # From the client

    async def receive(self) -> Message:
        """Receive a message from the client.

        Raises:
            HTTPException: The body is too large. The next call receives the next message.
        """
        self._is_receiving = True
        try:
            message = await (self._unread.get() if self._reading else self._next())
        finally:
            self._is_receiving = False
            if self._late.when() <= asyncio.get_running_loop().time():
                self._read_ahead()
        if message["type"] == "http.disconnect" and self._reading:
            self._unread.put_nowait(message)  # servers repeat it, too
        if message["type"] != "http.request":
            return message
        self.check_size(self._size)
        return {**message, "body": bytes(message.get("body", b""))}

    def check_size(self, size: int) -> None:
        """Check the size of the body, or of its part that has arrived.

        Raises:
            HTTPException: It is too large.
        """
        if size > self._largest_body:
            most = f"the body of a request may have up to {self._largest_body} bytes"
            raise HTTPException(413, most)

    async def _next(self) -> Message:
        message = await self._receive()
        self._size += len(message.get("body", b""))
        if self._size > self._largest_body:  # `receive` refuses it; until then it takes no memory
            message = {**message, "body": b""}
        if message["type"].endswith(".disconnect") and self._may_read_ahead:
            self._leave()
        return message

    def _read_ahead(self) -> None:
        if self._may_read_ahead and not (self._reading or self._is_receiving):
            self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        kind = ""
        while not kind.endswith(".disconnect"):
            kind = (message := await self._next())["type"]
            if kind == "http.request":  # one message holds any number, which may be tiny
                body = bytearray() if self._unread.empty() else self._unread.get_nowait()["body"]
                body += message.get("body", b"")
                message = {**message, "body": body}
            await self._unread.put(message)
            is_flooded = not self.is_http and self._unread.full()
            if is_flooded and not self._is_receiving:  # nothing would report that it leaves
                self._leave()
        if self.is_http and not (self._is_receiving or self.present.expired()):
            self.present.reschedule(asyncio.get_running_loop().time())

    def _leave(self) -> None:
        # The calls end now: the request can't end while one of its threads waits for them.
        self.has_left = True
        self.calls.end()

    def close(self) -> None:
        """Read no more, and let the app return by itself."""
        self._may_read_ahead = False
        stopping.leaves(self.present)
        self._late.cancel()
        if self._reading:
            self._reading.cancel()
            self._reading = None

    # To the client

    async def send(self, message: Message) -> None:
        """Send a message to the client, or hold it back."""
        kind = message["type"]
        if kind in STARTS:
            message = self._begin(message)
        elif kind == "websocket.accept":
            self.status = 101
            self._may_read_ahead = True
            self._keep_deadline()
        elif kind == "http.response.body" and not message.get("more_body"):
            self.close()  # background tasks come after this and are not cancelled
        if not self.is_event_stream:
            await self._pass_on(message)
        elif kind in STARTS:
            self._start = message
            self._holding = asyncio.create_task(self._hold(self._release))
        else:
            if body := message.get("body"):
                await self._release()
                await self._pass_on({**message, "body": body, "more_body": True})
            if not message.get("more_body"):
                self._is_whole = True
                self._holding = asyncio.create_task(self._hold(self.complete))
        if kind == "websocket.accept":
            self._read_ahead()

    def _begin(self, start: Message) -> Message:
        self.status = start["status"]
        headers = [header for header in start.get("headers", ()) if header != NO_CACHE]
        sent = dict(headers)
        headers += [header for header in self._headers if header[0] not in sent]
        is_events = sent.get(b"content-type", b"").startswith(EVENTS)
        self.is_event_stream = self.is_http and is_events
        if self.is_event_stream:
            stopping.ends(self.present)
        self._keep_deadline()
        return {**start, "headers": headers}

    def _keep_deadline(self) -> None:
        with suppress(RuntimeError):  # it has expired, or the app has returned
            self.deadline.reschedule(None)

    async def _pass_on(self, message: Message) -> None:
        self.has_started = True
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
            if start := self._start:
                self._start = None
                await self._pass_on(start)

    async def _hold(self, release: Callable[[], Awaitable[None]]) -> None:
        await asyncio.sleep(MAX_HOLD_SECONDS)
        with suppress(ClientDisconnect):  # the next message raises it again
            await release()

    async def complete(self, last_event: bytes = b"") -> None:
        """Send what is held back, and the end of an event stream if the app has.

        Args:
            last_event: Ends an event stream that the app has not ended, too.

        Raises:
            ClientDisconnect: The app has not answered; mostly, the client has left.
        """
        await self._release()
        if self.is_event_stream and (self._is_whole or last_event) and not self._has_ended:
            self._has_ended = True
            await self._pass_on({"type": "http.response.body", "body": last_event})
        elif self.is_http and not self.has_started:
            raise ClientDisconnect("the app has not answered")

    async def withdraw(self) -> None:
        """Forget what is held back. After this, ``has_started`` does not change by itself."""
        async with self._sending:
            self._start = None

"""The response to a request, or what is sent to a WebSocket."""

import asyncio
from contextlib import suppress

from starlette.requests import ClientDisconnect
from starlette.types import Message, Send

from ..limits import MAX_HOLD_SECONDS

STARTS = {"http.response.start", "websocket.http.response.start"}
EVENTS = b"text/event-stream"
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


class Outgoing:
    """Passes messages on to the client, with more headers.

    The start of an event stream is held back until its first event, and its end until the app has
    returned, for a second at most: an exception may follow either. Whatever sends raises
    `ClientDisconnect` if the client has left.
    """

    def __init__(self, send: Send, is_http: bool, request_id: str) -> None:
        """Begin with the server's ``send``."""
        self._send, self._is_http, self._request_id = send, is_http, request_id
        self.status = 0
        """Of the response; 101 for a WebSocket; 0 before it has begun."""
        self.has_started = False
        """Whether the client may have got something: not if its start is held back."""
        self.is_event_stream = False
        self.events_ended = False
        """Whether the app has sent the end of an event stream."""
        self._held: list[Message] = []
        self._holding: asyncio.Task[None] | None = None  # asyncio keeps no reference to a task
        self._sending = asyncio.Lock()

    async def send(self, message: Message) -> None:
        """Send a message to the client, or hold it back."""
        kind = message["type"]
        if kind in STARTS:
            message = self._begin(message)
        elif kind == "websocket.accept":
            self.status = 101
        elif kind == "websocket.close" and not self.status:
            self.status = 403  # which the server makes of it
        if not self.is_event_stream:
            await self._pass_on(message)
        elif kind in STARTS:
            self._hold(message)
        else:
            if body := message.get("body"):
                await self.release()
                await self._pass_on({**message, "body": body, "more_body": True})
            if not message.get("more_body"):
                self.events_ended = True
                self._hold({"type": "http.response.body", "body": b""})

    async def release(self) -> None:
        """Send what is held back."""
        async with self._sending:  # so that who releases later waits for what is being sent
            while self._held:
                await self._pass_on(self._held.pop(0))

    async def end_events(self, last_event: bytes) -> None:
        """End an event stream with this event, unless its end has been sent."""
        if self._held or not self.events_ended:
            if self.events_ended:
                self._held.pop()  # the end
            self.events_ended = True
            self._held.append({"type": "http.response.body", "body": last_event})
        await self.release()

    def withdraw(self) -> None:
        """Forget a response that has not started, so that another one can be sent."""
        self._held.clear()
        self.status, self.is_event_stream = 0, False

    def _begin(self, start: Message) -> Message:
        self.status = start["status"]
        headers = [header for header in start.get("headers", ()) if header != NO_CACHE]
        sent = dict(headers)
        headers += [header for header in RAW_HEADERS if header[0] not in sent]
        if b"x-request-id" not in sent:
            headers.append((b"x-request-id", self._request_id.encode()))
        is_events = sent.get(b"content-type", b"").startswith(EVENTS)
        self.is_event_stream = self._is_http and is_events
        return {**start, "headers": headers}

    async def _pass_on(self, message: Message) -> None:
        self.has_started = self.status != 0
        try:
            await self._send(message)
        except OSError:
            raise ClientDisconnect from None
        except RuntimeError as error:  # uvicorn and uvloop raise it if the client has left
            if not self._is_http or "closed" in str(error):
                raise ClientDisconnect from None
            raise

    def _hold(self, message: Message) -> None:
        self._held.append(message)
        self._holding = asyncio.create_task(self._release_later(message))

    async def _release_later(self, message: Message) -> None:
        await asyncio.sleep(MAX_HOLD_SECONDS)
        if message in self._held:
            with suppress(ClientDisconnect):  # the next message raises it again
                await self.release()

"""One request, or one WebSocket: its client, its response, its deadline and its calls to Flyte."""

import asyncio
from concurrent import futures
from typing import Any, Self

import anyio
from anyio.lowlevel import checkpoint_if_cancelled
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from ..calls.request_calls import Deadline, RequestCalls
from ..settings import Settings
from .stopping import COME_BACK, stopping

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
RAW_HEADERS = {name.encode(): value.encode() for name, value in HEADERS.items()}
NO_CACHE = (b"cache-control", b"no-cache")
"""Set by FastAPI on event streams; replaced, because it lets caches store them."""
LISTEN_AFTER = 1.0  # seconds; few requests take that long
PART_BYTES = 256 * 1024  # of a body
ENDED = (
    ClientDisconnect,
    WebSocketDisconnect,
    asyncio.CancelledError,
    futures.CancelledError,
    anyio.BrokenResourceError,
)
"""What an app may raise because it has been cancelled, or its calls to Flyte in threads have."""


def bug_in(error: BaseException | None) -> BaseException | None:
    """Return an error, or those of a group, unless it is in `ENDED`."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(ENDED)[1]
    return None if isinstance(error, ENDED) else error


class Client:
    """What the client sends, and whether it is still there.

    Servers report that a client has left only to whoever receives. So messages are received ahead
    of the app: of a request that takes more than a second, and of a WebSocket that is accepted. Two
    are kept at most: a client who leaves while the app does not read further ones goes unnoticed.
    """

    def __init__(self, receive: Receive, scope: anyio.CancelScope, calls: RequestCalls) -> None:
        """Begin.

        When the client leaves, the calls end. The scope is cancelled, too, unless the app is
        receiving: then it gets the disconnect.
        """
        self.has_left = False
        self._receive, self._scope, self._calls = receive, scope, calls
        self._is_receiving = self._is_over = False
        self._ahead: asyncio.Queue[Message] | None = None
        self._listener: asyncio.TimerHandle | asyncio.Task[None] | None = None

    async def receive(self) -> Message:
        """Receive a message for the app."""
        self._is_receiving = True
        try:
            message = await (self._ahead.get() if self._ahead else self._next())
        finally:
            self._is_receiving = False
        if self._ahead and message["type"].endswith(".disconnect"):
            self._ahead.put_nowait(message)  # as servers do: all later messages are this one
        return message

    async def _next(self) -> Message:
        message = await self._receive()
        if message["type"].endswith(".disconnect") and not self._is_over:
            self.has_left = True
            # The calls end now: the request can't end while one of its threads waits for them.
            self._calls.end()
        if message.get("more_body"):  # the deadline is for the response, once the body has come
            self._calls.deadline.extend()
        return message

    def listen_later(self) -> None:
        """Receive ahead in a second."""
        self._listener = asyncio.get_running_loop().call_later(LISTEN_AFTER, self.listen)

    def listen(self) -> None:
        """Receive ahead from here on."""
        if self._is_receiving:  # only one task at a time may call the server's receive()
            self.listen_later()
        else:
            self._ahead = asyncio.Queue(1)
            self._listener = asyncio.create_task(self._listen(self._ahead))

    async def _listen(self, ahead: asyncio.Queue[Message]) -> None:
        while not self.has_left:
            message = await self._next()
            if self.has_left and not (self._is_receiving and ahead.empty()):
                self._scope.cancel()
            await ahead.put(message)

    def stop_listening(self) -> None:
        """Let what comes next, such as background tasks, go on after the client has left."""
        self._is_over = True
        if self._listener:
            self._listener.cancel()


class Exchange:
    """A block in which the app serves a request. It ends early if the request does.

    The app is cancelled, and its calls to Flyte end, when the client leaves or the deadline passes.
    An event stream also ends when the server is asked to stop; its start is held back until its
    first event, and its end until the app returns, because the app may raise before either.
    """

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, settings: Settings, request_id: str
    ) -> None:
        """Begin; the response and all calls to Flyte get the ``request_id``."""
        self.status = 0
        """Of the response; 101 for a WebSocket; 0 before it has begun."""
        self.is_event_stream = False
        self._is_http, self._send = scope["type"] == "http", send
        self._scope = anyio.CancelScope()
        deadline = Deadline(settings.flyte_timeout, self._scope)
        self.calls = RequestCalls(deadline, request_id)
        self.client = Client(receive, self._scope, self.calls)
        self._held: Message | None = None

    def __enter__(self) -> Self:
        """Begin."""
        if self._is_http:
            self.client.listen_later()
        self._scope.__enter__()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> bool:
        """End all calls to Flyte, and leave out what the app raises because it was cancelled.

        Raises:
            ClientDisconnect: The client has left.
            TimeoutError: The response did not begin in time.
        """
        self.stop_listening()
        self.calls.end()
        if self._scope.__exit__(kind, error, traceback):
            error = None
        if bug_in(error) or not (self.client.has_left or self._scope.cancel_called):
            return False
        if self.client.has_left:
            raise ClientDisconnect
        if not self.is_event_stream:
            raise TimeoutError
        return True

    async def send(self, message: Message) -> None:
        """Send a message to the client, or hold it back.

        Raises:
            ClientDisconnect: The client has left.
            HTTPException: Starlette answers that the body is too large.
        """
        self.calls.has_sent()
        kind = message["type"]
        if kind.endswith(".start"):
            await checkpoint_if_cancelled()  # or what was cut off, such as a log, would look whole
            message = self._begin(message)
            if self.is_event_stream:
                self._held = message
                return
        elif kind == "websocket.accept":
            self.status = 101
            self.calls.deadline.remove()
        elif kind == "websocket.close" and not self.status:
            self.status = 403  # which the server makes of it
        elif kind == "http.response.body" and not message.get("more_body"):
            self.stop_listening()
        if self.is_event_stream:
            if not message.get("body"):
                return
            await self._release()
            message = {**message, "more_body": True}
        await self._pass_on(message)
        if kind == "websocket.accept":
            self.client.listen()

    def _begin(self, start: Message) -> Message:
        """Return the start of the response, with more headers."""
        headers = [header for header in start.get("headers", ()) if header != NO_CACHE]
        given = dict(headers)
        content = given.get(b"content-type", b"")
        if start["status"] == 413 and content.startswith(b"text/plain"):
            raise HTTPException(413, "Content Too Large")
        added = {**RAW_HEADERS, b"x-request-id": str(self.calls.request_id).encode()}
        if self.calls.left_out:
            added[b"x-left-out"] = str(self.calls.left_out).encode()
        headers += [(name, value) for name, value in added.items() if name not in given]
        self.calls.deadline.remove()
        self.is_event_stream = self._is_http and content.startswith(b"text/event-stream")
        if self.is_event_stream:
            stopping.cancel_at_stop(self._scope)
        else:
            self.status = start["status"]
        return {**start, "headers": headers}

    def stop_listening(self) -> None:
        """Let the app return by itself, whether the client leaves or the server is stopped."""
        stopping.forget(self._scope)
        self.client.stop_listening()

    def withdraw(self) -> None:
        """Forget the start of an event stream, so that another response can be sent."""
        self.is_event_stream, self._held = False, None

    async def finish(self) -> None:
        """Send the end of an event stream; it says so if the app was not done, but is stopping.

        Raises:
            RuntimeError: The app has not answered.
        """
        if self.is_event_stream:
            await self.end_events(COME_BACK if self._scope.cancel_called else b"")
        elif not self.status:
            raise RuntimeError("the app has not answered")

    async def end_events(self, last_event: bytes) -> None:
        """Send the last event of an event stream, and its end."""
        await self._release()
        await self._pass_on({"type": "http.response.body", "body": last_event})

    async def _release(self) -> None:
        if self._held:
            start, self._held = self._held, None
            self.status = start["status"]
            await self._pass_on(start)

    async def _pass_on(self, message: Message) -> None:
        try:
            # A server takes a message whole. In parts, the request is open until they are read.
            body = message.get("body", b"")
            last = max(0, len(body) - 1) // PART_BYTES * PART_BYTES
            for start in range(0, last, PART_BYTES):
                part = body[start : start + PART_BYTES]
                await self._send({**message, "body": part, "more_body": True})
            await self._send({**message, "body": body[last:]} if last else message)
        except (OSError, RuntimeError) as error:
            # uvicorn and uvloop raise a RuntimeError, too, if the client has left: a WebSocket's
            # always means that, HTTP's only if it says so.
            if isinstance(error, RuntimeError) and self._is_http and "closed" not in str(error):
                raise
            self.client.has_left = True
            raise ClientDisconnect from None

"""One request, or one WebSocket: its client, its response, its deadline and its calls to Flyte."""

import asyncio
from concurrent import futures
from types import TracebackType
from typing import Self

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from ..calls.request_calls import Deadline, RequestCalls
from ..settings import Settings
from .headers import HEADERS
from .stopping import COME_BACK, stopping

LISTEN_AFTER = 1.0  # seconds; few requests take that long
STARTS = {"http.response.start", "websocket.http.response.start"}
RAW_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
NO_CACHE = (b"cache-control", b"no-cache")
"""Set by FastAPI on event streams; replaced, because it lets caches store them."""
DISCONNECTS = (ClientDisconnect, WebSocketDisconnect)
CANCELLED = (asyncio.CancelledError, futures.CancelledError)
ENDED = (*DISCONNECTS, *CANCELLED, anyio.BrokenResourceError)
"""What an app may raise because it has been cancelled, or its calls to Flyte in threads have."""


class Client:
    """What the client sends, and whether it is still there.

    Servers report that a client has left only to whoever receives. So messages are received ahead
    of the app: of a request that takes more than a second, and of a WebSocket that is accepted. Two
    are kept at most: a client who leaves while the app does not read further ones goes unnoticed.
    """

    def __init__(self, receive: Receive, scope: anyio.CancelScope, calls: RequestCalls) -> None:
        """Begin.

        Args:
            receive: The server's.
            scope: What is cancelled when the client leaves, unless the app is receiving.
            calls: What ends when the client leaves.
        """
        self.has_left = False
        self._receive, self._scope, self._calls = receive, scope, calls
        self._is_receiving = False
        self._ahead = asyncio.Queue[Message](1)
        self._listening: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = False

    async def receive(self) -> Message:
        """Receive a message for the app."""
        self._is_receiving = True
        try:
            message = await (self._ahead.get() if self._listening else self._next())
        finally:
            self._is_receiving = False
        if self._listening and message["type"].endswith(".disconnect"):
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
        self._timer = asyncio.get_running_loop().call_later(LISTEN_AFTER, self.listen)

    def listen(self) -> None:
        """Receive ahead from here on."""
        if self._is_receiving:  # only one task at a time may call the server's receive()
            self.listen_later()
        else:
            self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        while not self.has_left:
            message = await self._next()
            if self.has_left and not (self._is_receiving and self._ahead.empty()):
                self._scope.cancel()
            await self._ahead.put(message)

    def stop_listening(self) -> None:
        """Let what comes next, such as background tasks, go on after the client has left."""
        self._is_over = True
        if self._timer:
            self._timer.cancel()
        if self._listening:
            self._listening.cancel()


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
        self.calls = RequestCalls(settings.flyte_timeout, request_id, deadline)
        self.client = Client(receive, self._scope, self.calls)
        self._held: Message | None = None
        self._has_ended = False

    def __enter__(self) -> Self:
        """Begin."""
        if self._is_http:
            self.client.listen_later()
        self._scope.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """End all calls to Flyte, and leave out what the app raises because it was cancelled.

        Raises:
            ClientDisconnect: The client has left.
            TimeoutError: The response did not begin in time.
        """
        self.stop_listening()
        self.calls.end()
        if self._scope.__exit__(kind, error, traceback):
            error = None
        if not (self.client.has_left or self._scope.cancel_called):
            return False
        if isinstance(error, BaseExceptionGroup):
            error = error.split(ENDED)[1]
        if error and not isinstance(error, ENDED):
            raise error
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
        self.calls.reset()
        kind = message["type"]
        if kind in STARTS:
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
            self._has_ended = True
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
            raise HTTPException(413)
        headers += [header for header in RAW_HEADERS if header[0] not in given]
        if b"x-request-id" not in given:
            headers.append((b"x-request-id", str(self.calls.request_id).encode()))
        if self.calls.left_out:
            headers.append((b"x-left-out", str(self.calls.left_out).encode()))
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
        """Send the end of an event stream, if the app has sent it or the server is stopping.

        Raises:
            RuntimeError: The app has not answered.
        """
        if self.is_event_stream and self._scope.cancel_called:
            await self.end_events(COME_BACK)
        elif self.is_event_stream and self._has_ended:
            await self.end_events()
        elif not (self.is_event_stream or self.status):
            raise RuntimeError("the app has not answered")

    async def end_events(self, last_event: bytes = b"") -> None:
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
            await self._send(message)
        except (OSError, RuntimeError) as error:
            # uvicorn and uvloop raise a RuntimeError, too, if the client has left.
            if isinstance(error, RuntimeError) and self._is_http and "closed" not in str(error):
                raise
            self.client.has_left = True
            raise ClientDisconnect from None

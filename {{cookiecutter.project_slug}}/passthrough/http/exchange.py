"""One request, or one WebSocket: its client, its response, its deadline and its calls to Flyte."""

import asyncio
import signal
from concurrent import futures
from contextlib import suppress
from typing import Any

import anyio
from anyio.lowlevel import checkpoint_if_cancelled
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from ..calls.request_state import Deadline, RequestState, cancelled_at_stop
from ..calls.sdk import FLYTE_ERRORS

HEADERS = {
    # A response is for its caller only, so no cache may store it (RFC 9111 5.2.2.5).
    "cache-control": "no-store",
    # Pages load only the app's files and cannot be framed.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
        " font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    ),
    # Other sites cannot embed a response, or keep a reference to a window that they open.
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # URLs contain names of runs and tasks, which linked sites must not see.
    "referrer-policy": "no-referrer",
    # Browsers must never run task output as a script or show it as a page.
    "x-content-type-options": "nosniff",
}
"""Added to every response that does not set them itself."""
RAW_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
LISTEN_AFTER = 1.0  # seconds; few requests take that long
LARGE_BODY = 64 * 1024  # bytes, which a server keeps for a client who does not read
ENDED = (
    ClientDisconnect,
    WebSocketDisconnect,
    asyncio.CancelledError,
    futures.CancelledError,
    anyio.BrokenResourceError,
)
"""What an app may raise because it has been cancelled, or its calls to Flyte in threads have."""
EXPECTED = (HTTPException, *FLYTE_ERRORS)  # all else is a bug
COME_BACK = b"retry: 1000\n\n"
"""The end of an unfinished event stream: the client reconnects after this many milliseconds."""


def cancel_at_stop() -> None:
    """Cancel those scopes when the server is asked to stop: by SIGTERM, or Ctrl-C."""
    loop, handlers = asyncio.get_running_loop(), dict[int, Any]()

    def handle(number: int, frame: Any) -> None:
        for scope in cancelled_at_stop:
            loop.call_soon_threadsafe(scope.cancel)
        handlers[number](number, frame)

    with suppress(ValueError):  # in a thread, where no signal stops this server alone
        for number in (signal.SIGINT, signal.SIGTERM):
            handlers[number] = signal.getsignal(number)
            if callable(handlers[number]):
                signal.signal(number, handle)


class Client:
    """What the client sends, and whether it has left.

    Servers tell that only to whoever receives. So messages are received ahead of the app: of a
    request that takes more than a second, and of a WebSocket that is accepted. Two are kept at
    most: a client who leaves while the app does not read further ones goes unnoticed.
    When the client leaves, the calls end, and the scope is cancelled. Only if the app of a
    WebSocket is receiving, it gets the disconnect instead.
    """

    def __init__(self, receive: Receive, scope: anyio.CancelScope, calls: RequestState) -> None:
        self.has_left = False
        self.may_leave = False  # the response is complete: leaving cancels no background task
        self._receive, self._scope, self._calls = receive, scope, calls
        self._is_receiving = False
        self._ahead: asyncio.Queue[Message] | None = None
        self.listener: asyncio.TimerHandle | asyncio.Task[None] | None = None

    async def receive(self) -> Message:
        """Receive a message for the app."""
        self._is_receiving = True
        try:
            return await (self._ahead.get() if self._ahead else self._next())
        finally:
            self._is_receiving = False

    async def _next(self) -> Message:
        message = await self._receive()
        if message["type"].endswith(".disconnect") and not self.may_leave:
            self.has_left = True
            if message["type"] == "http.disconnect":
                # Before the calls end: FastAPI takes a call's cancellation for one of its own.
                self._scope.cancel()
            # The calls end now: the request can't end while one of its threads waits for them.
            self._calls.end()
        if message.get("more_body"):  # the deadline is for the response, once the body has come
            self._calls.deadline.extend()
        return message

    def listen_later(self) -> None:
        """Receive ahead in a second."""
        self.listener = asyncio.get_running_loop().call_later(LISTEN_AFTER, self.listen)

    def listen(self) -> None:
        """Receive ahead from here on."""
        if self._is_receiving:  # only one task at a time may call the server's receive()
            self.listen_later()
        else:
            self._ahead = asyncio.Queue(1)
            self.listener = asyncio.create_task(self._listen(self._ahead))

    async def _listen(self, ahead: asyncio.Queue[Message]) -> None:
        while not self.has_left:
            message = await self._next()
            app_gets_it = self._is_receiving and ahead.empty()
            if self.has_left and not app_gets_it:
                self._scope.cancel()
            await ahead.put(message)


class Exchange:
    """Has the app answer a request, and ends it early if the request does.

    The app is cancelled, and its calls to Flyte end, when the client leaves or the deadline passes;
    those that a thread waits for end a second after the deadline (`Deadline.limit`). An event
    stream also ends when the server is asked to stop. Its start is sent with its first event, so
    that an error before that is an ordinary problem. Its end is sent when the app has returned, so
    that a later error is its last event.
    """

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, timeout: float, request_id: str
    ) -> None:
        self.status = 0
        """Of the response; 101 for a WebSocket; 0 before it has begun."""
        self.is_event_stream = False
        self._scope, self._send = scope, send
        self._cancel_scope = anyio.CancelScope()
        self.calls = RequestState(Deadline(timeout, self._cancel_scope), request_id)
        self.client = Client(receive, self._cancel_scope, self.calls)
        self._held: list[Message] = []

    async def run(self, app: ASGIApp) -> BaseException | None:
        """Have the app answer; return the error that the client must still be told, if any."""
        if self._scope["type"] == "http":
            self.client.listen_later()
        try:
            with self._cancel_scope:
                await app(self._scope, self.client.receive, self.send)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - it is told or logged
            return self._to_tell(error)
        finally:
            self._let_go()
            if self.client.listener:
                self.client.listener.cancel()
            self.calls.end()
        return self._to_tell(None)

    def _to_tell(self, error: BaseException | None) -> BaseException | None:
        """Return what to tell, if the app has raised this error, or returned."""
        failures = BaseExceptionGroup("", [error]).split(ENDED)[1] if error else None
        if failures:
            bugs = failures.split(EXPECTED)[1]
            found: BaseException = bugs or failures
            while isinstance(found, BaseExceptionGroup):
                if bugs and len(found.exceptions) > 1:
                    break  # the log shows all of them
                found = found.exceptions[0]
            return found
        if self.client.has_left:
            return ClientDisconnect()
        if self._cancel_scope.cancel_called:
            return None if self.is_event_stream else TimeoutError()
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task and task.cancelling():
            raise error  # the server cancels the request
        return error

    async def send(self, message: Message) -> None:
        """Send a message to the client, or hold it back.

        Raises:
            ClientDisconnect: The client has left.
        """
        self.calls.sent_something()
        kind = message["type"]
        if kind.endswith(".start"):
            # An answer that was cut off, such as a log, must not begin as if it were whole.
            await checkpoint_if_cancelled()
            message, self._held = self._begin(message), []
            if self.is_event_stream:
                self._held = [message]
                return
        elif kind == "websocket.accept":
            self.status = 101
            self.calls.deadline.remove()
            self.client.listen()
        elif kind == "websocket.close" and not self.status:
            self.status = 403  # which the server makes of it
        elif kind == "http.response.body":
            await self._send_body(message)
            return
        await self._pass_on(message)

    async def _send_body(self, part: Message) -> None:
        size, is_last = len(part.get("body", b"")), not part.get("more_body")
        if is_last:
            self._let_go()
        if self.is_event_stream:  # whose end `end_events` sends
            if size:
                await self._pass_on({**part, "more_body": True})
        elif is_last and size > LARGE_BODY:
            await self._pass_on({**part, "more_body": True})
            # By itself: the server takes it only once the client has read enough of the response.
            await self._pass_on({"type": "http.response.body"})
        else:
            await self._pass_on(part)

    def _begin(self, start: Message) -> Message:
        """Return the start of the response, with more headers."""
        headers = MutableHeaders(raw=[*start.get("headers", ())])
        content = headers.get("content-type", "")
        if start["status"] == 413 and content.startswith("text/plain"):  # Starlette's, of a body
            raise HTTPException(413, "Content Too Large")
        self.is_event_stream = content.startswith("text/event-stream")
        if self.is_event_stream:
            del headers["cache-control"]  # FastAPI's "no-cache" lets caches store it
            cancelled_at_stop.add(self._cancel_scope)
        own = {name for name, _ in headers.raw}
        headers.raw.extend(header for header in RAW_HEADERS if header[0] not in own)
        headers.setdefault("x-request-id", self.calls.request_id)
        if self.calls.left_out:
            headers["x-left-out"] = str(self.calls.left_out)
        self.calls.deadline.remove()
        return {**start, "headers": headers.raw}

    def _let_go(self) -> None:
        """Let the app return by itself, whether the client leaves or the server is stopped."""
        cancelled_at_stop.discard(self._cancel_scope)
        self.client.may_leave = True

    async def end_events(self, last_event: bytes = b"") -> None:
        """Send the end of an event stream. It says so if the app was stopped by a signal."""
        last = last_event or (COME_BACK if self._cancel_scope.cancel_called else b"")
        await self._pass_on({"type": "http.response.body", "body": last})

    async def _pass_on(self, message: Message) -> None:
        held, self._held = self._held, []
        for one in (*held, message):
            self.status = one.get("status", self.status)
            try:
                await self._send(one)
            except (OSError, RuntimeError) as error:
                # uvicorn and uvloop raise a RuntimeError, too, if the client has left: a
                # WebSocket's always means that, HTTP's only if it says so.
                is_http = self._scope["type"] == "http"
                if isinstance(error, RuntimeError) and is_http and "closed" not in str(error):
                    raise
                self.client.has_left = True
                raise ClientDisconnect from None

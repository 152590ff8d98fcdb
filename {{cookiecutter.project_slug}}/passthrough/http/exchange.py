"""One request: its client, its response, its deadline and its calls to Flyte."""

import asyncio
import math
from concurrent import futures
from traceback import clear_frames

import anyio
from anyio.lowlevel import checkpoint_if_cancelled
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..calls.request_state import Deadline, RequestState, cancelled_at_stop

LISTEN_AFTER = 0.5  # seconds: most requests end before, and save a task, 4 % of their time
UNREAD_SECONDS = 10.0  # after which a client that reads nothing of a large body is given up
PIECE_BYTES = 64 * 1024  # of a large body
ENDED = (
    ClientDisconnect,
    asyncio.CancelledError,
    futures.CancelledError,
    anyio.BrokenResourceError,
)
"""What an app may raise when it was cancelled, or when its calls to Flyte in threads were."""
SSE_RETRY = b"retry: 1000\n\n"
"""The end of an unfinished event stream: the client reconnects after this many milliseconds."""
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
"""Of every response that does not set them itself."""


def size_of_body(scope: Scope) -> float:
    """Return how many bytes a request's body has; infinity if that is not told."""
    sent = dict(scope["headers"])
    return math.inf if b"transfer-encoding" in sent else int(sent.get(b"content-length", 0))


class Exchange:
    """Has the app answer a request, and ends it early if the request does.

    The app is cancelled, and its calls to Flyte end, when the client leaves or the deadline passes.
    An event stream also ends when the server is asked to stop.

    A server reports that the client has left only through ``receive``. So a task calls it if the
    app does not, `LISTEN_AFTER` seconds after the body. While some of the body is unread, nobody
    notices.

    An event stream starts with its first event: an endpoint that fails before that, for example
    because Flyte knows no such run, is answered with the status of its error. It ends not when the
    app returns, but with `end_events`: so the error of an endpoint can still be its last event.
    """

    def __init__(
        self,
        receive: Receive,
        send: Send,
        headers: list[tuple[bytes, bytes]],
        timeout: float,
        request_id: str,
    ) -> None:
        self.status = 0  # of the response; 0 before it has begun
        self.has_left = False  # the client, before the response was complete
        self.is_event_stream = False
        self._receive, self._send, self._headers = receive, send, headers
        self._empty_body: Message | None = None  # until the app asks for it
        self._listens_soon: asyncio.TimerHandle | None = None  # once the body has come
        self._listener: asyncio.Task[Message] | None = None
        self._first: Message | None = None  # of an event stream, until its first event
        self._is_complete = False
        self._cancel_scope = anyio.CancelScope()
        self.state = RequestState(Deadline(timeout, self._end), request_id)

    @property
    def was_cancelled(self) -> bool:
        """Whether the deadline has passed, the client has left, or the server is to stop."""
        return self._cancel_scope.cancel_called

    async def run(self, app: ASGIApp, scope: Scope) -> BaseException | None:
        """Have the app answer; return the error that the client must still be told, if any."""
        try:
            with self._cancel_scope:
                # The app may never ask for the end of its body; then nobody would listen.
                if not size_of_body(scope):
                    self._empty_body = await self.receive()
                try:
                    await app(scope, self.receive, self.send)
                except BaseException as error:
                    # A frame that awaits a thread is in a cycle with its error: free its variables.
                    clear_frames(error.__traceback__)
                    raise
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - it is told or logged
            return self._error_to_send(error)
        finally:
            self._complete()
            for waiting in (self._listens_soon, self._listener):
                if waiting:
                    waiting.cancel()
            # Else a cycle keeps the credentials until it is collected.
            self._listens_soon = self._listener = None
            self.state.end()
        return self._error_to_send(None)

    async def receive(self) -> Message:
        """Receive a message from the client."""
        if body := self._empty_body:
            self._empty_body = None
            return body
        if self._listens_soon:
            return await asyncio.shield(self._listen())
        message = await self._receive()
        if message.get("more_body"):  # the deadline is for the response, once the body has come
            self.state.deadline.extend()
        elif message["type"] == "http.request":
            loop = asyncio.get_running_loop()
            self._listens_soon = loop.call_later(LISTEN_AFTER, self._listen)
        else:
            self._leave()
        return message

    def _listen(self) -> asyncio.Task[Message]:
        async def receive_disconnect() -> Message:  # ASGI has nothing else after the body
            message = await self._receive()
            self._leave()
            return message

        self._listener = self._listener or asyncio.create_task(receive_disconnect())
        return self._listener

    def _leave(self) -> None:
        if not self._is_complete:  # afterwards, background tasks go on
            self.has_left = True
            self._end()

    def _end(self) -> None:
        # First: FastAPI would take a call's cancellation for its own.
        self._cancel_scope.cancel()
        # The calls end now: the request can't end while one of its threads waits for them.
        self.state.end_calls()

    def _error_to_send(self, error: BaseException | None) -> BaseException | None:
        """Return what to tell, if the app has raised this error, or returned.

        An app with several tasks raises a group, in which cancellations arrive with the errors that
        have caused them: of these, the first is told.
        """
        failure: BaseException | None = None
        if error:
            failure = BaseExceptionGroup("", [error]).split(ENDED)[1]
        while isinstance(failure, BaseExceptionGroup):
            failure = failure.exceptions[0]
        if failure:
            return failure
        if self.has_left:
            return ClientDisconnect()
        if self.was_cancelled or self.state.deadline.seconds_left() < 0:
            return None if self.is_event_stream else TimeoutError()
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task and task.cancelling():
            raise error  # the server cancels the request
        return error

    async def send(self, message: Message) -> None:
        """Send a message to the client.

        Raises:
            ClientDisconnect: The client has left.
            HTTPException: It is Starlette's own 413, to be sent as a problem.
        """
        begins = message["type"] == "http.response.start"
        if begins:
            if self.was_cancelled:
                # An answer that was cut off, such as a log, must not begin as if it were whole.
                await checkpoint_if_cancelled()
            message = self._with_headers(message)
            self.state.deadline.remove()
            # The app has used what it has received, or parsed, to make the response.
            self.state.message_slot.release()
            self.state.body_slot.release()
            self._first = message if self.is_event_stream else None
            if self.is_event_stream:
                cancelled_at_stop[self._cancel_scope] = asyncio.get_running_loop()
        elif not message.get("more_body"):
            self._complete()
        self.state.received = 0
        if not self.is_event_stream:
            await self._pass_on(message)
        elif message.get("body"):
            await self._pass_on({**message, "more_body": True})

    async def end_events(self, last: bytes) -> None:
        """Send what the client reads last, such as an event or `SSE_RETRY`, and the end."""
        seconds = UNREAD_SECONDS if self.was_cancelled else math.inf
        await self._pass_on({"type": "http.response.body", "body": last}, seconds)

    def _with_headers(self, start: Message) -> Message:
        sent = start.get("headers", ())
        own = dict(sent)
        kind = own.get(b"content-type", b"")
        if start["status"] == 413 and kind.startswith(b"text/plain"):
            raise HTTPException(413, "Content Too Large")
        self.is_event_stream = kind.startswith(b"text/event-stream")
        if self.is_event_stream:
            own.pop(b"cache-control", None)  # FastAPI's "no-cache" lets caches store it
        more = [*self._headers, (b"x-request-id", self.state.request_id.encode())]
        if self.state.omitted_count:
            more.append((b"x-omitted-count", b"%d" % self.state.omitted_count))
        headers = [pair for pair in sent if pair[0] in own]
        return {**start, "headers": headers + [pair for pair in more if pair[0] not in own]}

    def _complete(self) -> None:
        """Let the app return by itself, whether the client leaves or the server is stopped."""
        cancelled_at_stop.pop(self._cancel_scope, None)
        self._is_complete = True

    async def _pass_on(self, message: Message, seconds: float = math.inf) -> None:
        if first := self._first:
            self._first = None
            await self._pass_on(first)
        self.status = message.get("status", self.status)
        body, more = message.get("body", b""), message.get("more_body", False)
        if len(body) > PIECE_BYTES:
            seconds = UNREAD_SECONDS
        try:
            for start in range(0, len(body) or 1, PIECE_BYTES):
                if len(body) > PIECE_BYTES:
                    end = start + PIECE_BYTES
                    more_body = more or end < len(body)
                    message = {**message, "body": body[start:end], "more_body": more_body}
                async with asyncio.timeout(None if seconds == math.inf else seconds):
                    await self._send(message)
        except (OSError, RuntimeError) as error:
            # If the client has left, uvloop raises a RuntimeError, which says so.
            if isinstance(error, RuntimeError) and "closed" not in str(error):
                raise
            self.has_left = True
            raise ClientDisconnect from None

"""One request: its client, its response, its deadline and its calls to Flyte."""

import asyncio
from concurrent import futures

import anyio
from anyio.lowlevel import checkpoint_if_cancelled
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..calls.request_state import Deadline, RequestState, cancelled_at_stop
from ..calls.sdk import FLYTE_ERRORS
from ..calls.turns import LARGE_BYTES

LISTEN_AFTER = 1.0  # seconds; few requests take that long
UNREAD_SECONDS = 10.0  # then a client is left, if something large waits until it reads
PIECE_BYTES = 64 * 1024  # of a large body
ENDED = (
    ClientDisconnect,
    asyncio.CancelledError,
    futures.CancelledError,
    anyio.BrokenResourceError,
)
"""What an app may raise because it has been cancelled, or its calls to Flyte in threads have."""
EXPECTED = (HTTPException, *FLYTE_ERRORS)  # all else is a bug
COME_BACK = b"retry: 1000\n\n"
"""The end of an unfinished event stream: the client reconnects after this many milliseconds."""


class Client:
    """What the client sends, and whether it has left.

    A server tells that only to whoever receives. So after a second, messages are received ahead of
    the app and kept for it, two at most: if the app leaves more of a body unread, for example,
    nobody notices that its client leaves. When it does, the calls end, and the scope is cancelled.
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
        if message["type"] == "http.disconnect" and not self.may_leave:
            self.has_left = True
            # Before the calls end: FastAPI takes a call's cancellation for one of its own.
            self._scope.cancel()
            # The calls end now: the request can't end while one of its threads waits for them.
            self._calls.end()
        if message.get("more_body"):  # the deadline is for the response, once the body has come
            self._calls.deadline.extend()
        return message

    def listen_later(self) -> None:
        """Receive ahead in a second."""
        self.listener = asyncio.get_running_loop().call_later(LISTEN_AFTER, self._listen)

    def _listen(self) -> None:
        if self._is_receiving:  # only one task at a time may call the server's receive()
            self.listen_later()
        else:
            self._ahead = asyncio.Queue(1)
            self.listener = asyncio.create_task(self._receive_ahead(self._ahead))

    async def _receive_ahead(self, ahead: asyncio.Queue[Message]) -> None:
        while not self.has_left:
            await ahead.put(await self._next())


class EventStream:
    """A response that is an event stream.

    It starts with its first event: an endpoint that fails before that, for example because Flyte
    knows no such run, is answered with the status of its error. `end` ends it, not the app: an
    endpoint that fails later can still tell so in a last event.
    """

    def __init__(self, start: Message, send: Send) -> None:
        self._start: Message | None = start
        self._send = send

    async def add(self, part: Message) -> None:
        """Send a part of the body that the app has sent, unless it is empty."""
        if part.get("body"):
            await self._pass_on({**part, "more_body": True})

    async def end(self, last_event: bytes) -> None:
        """Send what the client reads last, such as an event or `COME_BACK`, and the end."""
        await self._pass_on({"type": "http.response.body", "body": last_event})

    async def _pass_on(self, part: Message) -> None:
        start, self._start = self._start, None
        if start:
            await self._send(start)
        await self._send(part)


class Exchange:
    """Has the app answer a request, and ends it early if the request does.

    The app is cancelled, and its calls to Flyte end, when the client leaves or the deadline passes;
    those that a thread waits for end a second after the deadline (`Deadline.limit`). An event
    stream also ends when the server is asked to stop.
    """

    def __init__(self, receive: Receive, send: Send, timeout: float, request_id: str) -> None:
        self.status = 0
        """Of the response; 0 before it has begun."""
        self.events: EventStream | None = None
        """The response, if it is an event stream."""
        self._send = send
        self._cancel_scope = anyio.CancelScope()
        self.calls = RequestState(Deadline(timeout, self._cancel_scope), request_id)
        self.client = Client(receive, self._cancel_scope, self.calls)

    @property
    def was_cancelled(self) -> bool:
        """Whether the deadline has passed, the client has left, or a signal has ended a stream."""
        return self._cancel_scope.cancel_called

    async def run(self, app: ASGIApp, scope: Scope, send: Send) -> BaseException | None:
        """Have the app answer; return the error that the client must still be told, if any."""
        self.client.listen_later()
        try:
            with self._cancel_scope:
                await app(scope, self.client.receive, send)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - it is told or logged
            return self._to_tell(error)
        finally:
            self._let_go()
            if self.client.listener:
                self.client.listener.cancel()
            self.calls.end()
        return self._to_tell(None)

    def _to_tell(self, error: BaseException | None) -> BaseException | None:
        """Return what to tell, if the app has raised this error, or returned.

        An app with several tasks raises a group, in which cancellations arrive with the error that
        has caused them: the error is told, and a bug rather than an error of Flyte's.
        """
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
        if self.was_cancelled or self.calls.deadline.seconds_left() < 0:
            return None if self.events else TimeoutError()
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task and task.cancelling():
            raise error  # the server cancels the request
        return error

    async def send(self, message: Message) -> None:
        """Send a message to the client; the start of an event stream waits for its first event.

        Raises:
            ClientDisconnect: The client has left.
        """
        if len(message.get("body", b"")) > LARGE_BYTES:
            await self._send_in_pieces(message)
            return
        if message["type"] == "http.response.start":
            if self.was_cancelled:
                # An answer that was cut off, such as a log, must not begin as if it were whole.
                await checkpoint_if_cancelled()
            self.calls.deadline.remove()
            self.events = None
            kind = dict(message.get("headers", ())).get(b"content-type", b"")
            if kind.startswith(b"text/event-stream"):
                self.events = EventStream(message, self._pass_on)
                cancelled_at_stop.add(self._cancel_scope)
                self.calls.sent_something()
                return
        else:
            self.calls.sent_something()
            if not message.get("more_body"):
                self._let_go()
        await (self.events.add if self.events else self._pass_on)(message)

    async def _send_in_pieces(self, message: Message) -> None:
        """Send a large body, of which a caller has one in memory, until its client has read it."""
        body, more, turn = message["body"], message.get("more_body", False), self.calls.turn
        kept, turn.keeps_line = turn.keeps_line, True
        for start in range(0, len(body), PIECE_BYTES):
            end = start + PIECE_BYTES
            await self.send(
                {**message, "body": body[start:end], "more_body": more or end < len(body)}
            )
        turn.keeps_line = kept
        turn.let_go()

    def _let_go(self) -> None:
        """Let the app return by itself, whether the client leaves or the server is stopped."""
        cancelled_at_stop.discard(self._cancel_scope)
        self.client.may_leave = True

    async def _pass_on(self, message: Message) -> None:
        self.status = message.get("status", self.status)
        try:
            async with asyncio.timeout(UNREAD_SECONDS if self.calls.turn.keeps_line else None):
                await self._send(message)
        except (OSError, RuntimeError) as error:
            # If the client has left, uvloop raises a RuntimeError, which says so.
            if isinstance(error, RuntimeError) and "closed" not in str(error):
                raise
            self.client.has_left = True
            raise ClientDisconnect from None

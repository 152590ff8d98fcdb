"""Ends a request early: its client has left, its deadline has passed, or the server stops."""

import asyncio
from concurrent import futures
from traceback import clear_frames

import anyio
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..calls.request_state import Deadline, RequestState, called_at_stop
from ..settings import Settings

LISTEN_AFTER = 0.5  # seconds: most requests end before, and save a task, 4 % of their time
LATE_SECONDS = 0.01  # after a late body, for the server to find out that the client has left
STOP_SECONDS = 10.0  # that a request may still take: half of ``timeout_graceful_shutdown``
CANCELLATIONS = (
    ClientDisconnect,
    asyncio.CancelledError,
    futures.CancelledError,
    anyio.BrokenResourceError,
)
"""Errors that an app may raise if it was cancelled, or if its calls to Flyte in threads were."""


class StoppingError(Exception):
    """The server stops before the response has begun."""


class Cancellation:
    """Runs the app for one request, and cancels the app and its calls to Flyte.

    It cancels when the client leaves, when the deadline passes, and when the server stops: then
    event streams at once, and other requests after `STOP_SECONDS`. A request whose response is
    complete is not cancelled, because background tasks go on.

    A server reports a disconnect only through ``receive``. So, `LISTEN_AFTER` seconds after the
    request has begun, a task starts to receive its messages, ahead of the app. The task holds at
    most two parts of a body, of 64 kB each. If the client has sent more than that and the server's
    own buffer, and the app reads none of it, the disconnect stays unnoticed.
    """

    def __init__(self, receive: Receive, settings: Settings, request_id: str) -> None:
        self.reason: Exception | None = None  # why the request was cancelled, if it was
        self.stop_seconds = STOP_SECONDS
        self.is_complete = False  # whether the whole response was handed to the server
        deadline = Deadline(settings.flyte_timeout, lambda: self._cancel(TimeoutError()))
        self.state = RequestState(deadline, request_id, settings)
        self._receive = receive
        self._cancel_scope = anyio.CancelScope()
        self._timer: asyncio.TimerHandle | None = None  # until the listener may start
        self._is_receiving = False  # whether the app waits for the server, without a listener
        self._listener: asyncio.Task[None] | None = None
        self._messages: asyncio.Queue[Message]  # received by the listener

    async def run(self, app: ASGIApp, scope: Scope, send: Send) -> BaseException | None:
        """Have the app respond; return the error to send to the client or to log, if any."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(LISTEN_AFTER, self._start_listening)
        called_at_stop[self._stop] = loop
        try:
            with self._cancel_scope:
                try:
                    await app(scope, self.receive, send)
                except BaseException as error:
                    # A frame that awaits a thread is in a cycle with its error: free its variables.
                    clear_frames(error.__traceback__)
                    raise
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - it is sent or logged
            return self._error_to_send(error)
        finally:
            called_at_stop.pop(self._stop, None)
            for waiting in (self._timer, self._listener):
                if waiting:
                    waiting.cancel()
            # Break the cycle; otherwise credentials stay in memory until garbage collection.
            self._timer = self._listener = None
            self.state.end()
        return self._error_to_send(None)

    async def receive(self) -> Message:
        """Receive a message from the client."""
        if not self._listener:
            message = await self._receive_directly()
        elif self._listener.done() and self._messages.empty():
            return {"type": "http.disconnect"}
        else:
            message = await self._messages.get()
        if message["type"] == "http.disconnect":
            self.leave()
        elif message.get("more_body"):
            self.state.deadline.extend()  # the deadline is for the response to the whole body
        elif self._listener:
            # The body has waited to be read, and the client may have left: start nothing for it.
            await asyncio.wait([self._listener], timeout=LATE_SECONDS)
        return message

    async def _receive_directly(self) -> Message:
        self._is_receiving = True
        try:
            return await self._receive()
        finally:
            self._is_receiving = False
            if not self._timer:
                self._start_listening()

    def _start_listening(self) -> None:
        self._timer = None
        if not (self._is_receiving or self._listener or self.is_complete):
            self._messages = asyncio.Queue(1)
            self._listener = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        message: Message = {"type": ""}
        while message["type"] != "http.disconnect":
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.leave()
            await self._messages.put(message)

    def leave(self) -> None:
        """Cancel, because the client has left."""
        self._cancel(ClientDisconnect())

    def _stop(self) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(self.stop_seconds, self._cancel, StoppingError())

    def _cancel(self, reason: Exception) -> None:
        if self.is_complete:
            return
        self.reason = self.reason or reason
        # Cancel the scope first, or FastAPI mistakes a Flyte call's cancellation for its own.
        self._cancel_scope.cancel()
        # The calls end now: the request can't end while one of its threads waits for them.
        self.state.calls.end()

    def _error_to_send(self, error: BaseException | None) -> BaseException | None:
        """Return the error to send, if the app has raised this error, or returned."""
        if error and (failure := _first_failure(error)):
            return failure
        if self.reason:
            return self.reason
        if self.state.deadline.seconds_left() < 0:
            return TimeoutError()
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task and task.cancelling():
            raise error  # the server cancels the request
        return error


def _first_failure(error: BaseException) -> BaseException | None:
    """Return the first error that is no cancellation.

    An app with several tasks raises a group, which contains the error and the cancellations that it
    has caused.
    """
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(_first_failure, error.exceptions)), None)
    return None if isinstance(error, CANCELLATIONS) else error

"""Cancels a request if the client disconnects, the deadline passes, or the server stops."""

import asyncio
from concurrent import futures
from traceback import clear_frames

import anyio
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..calls.request_state import Deadline, RequestState, called_at_stop
from ..settings import Settings

LISTEN_AFTER = 0.5  # seconds; shorter requests need no listener task, which would take 4 % of time
MAX_AHEAD = 64 * 1024  # bytes of a body that the listener may receive before the app reads them
LATE_SECONDS = 0.01  # pause after a late body, so that the server can notice a disconnect
STOP_SECONDS = 10.0  # time for open requests at a stop; half of ``timeout_graceful_shutdown``
CANCELLATIONS = (
    ClientDisconnect,
    asyncio.CancelledError,
    futures.CancelledError,
    anyio.BrokenResourceError,
)
"""The errors that an app may raise after a cancellation, including those of calls in threads."""


class StoppingError(Exception):
    """The server stops before the response has begun."""


class Cancellation:
    """Runs the app for one request, and may cancel the app and its calls to Flyte.

    `Cancellation` cancels the request when the client disconnects, when the deadline passes, or
    when the server stops. When the server stops, event streams are cancelled at once, and other
    requests after `STOP_SECONDS`. A request with a complete response is never cancelled, because
    the request may still have background tasks.

    A server reports a disconnect only as a message of ``receive``. Therefore a listener task starts
    `LISTEN_AFTER` seconds after the start of the request, and receives messages for the app. If the
    app does not read a body, the listener stops receiving at `MAX_AHEAD` bytes. From then on, it
    cannot notice a disconnect, so the request ends when the app returns or the deadline passes. If
    the body belongs to a GET or to a pipelined request, ``server.Protocol`` closes the connection.
    """

    def __init__(self, receive: Receive, settings: Settings, request_id: str) -> None:
        self.reason: Exception | None = None  # the reason of the cancellation, if any
        self.stop_seconds = STOP_SECONDS
        self.is_complete = False  # whether the app has sent the whole response
        deadline = Deadline(settings.flyte_timeout, lambda: self._cancel(TimeoutError()))
        self.state = RequestState(deadline, request_id, settings)
        self._receive = receive
        self._cancel_scope = anyio.CancelScope()
        self._timer: asyncio.TimerHandle | None = None  # calls `_start_listening`
        self._is_receiving = False  # whether the app waits for a message without a listener
        self._listener: asyncio.Task[None] | None = None
        self._messages: asyncio.Queue[Message]  # messages that the listener has received

    async def run(self, app: ASGIApp, scope: Scope, send: Send) -> BaseException | None:
        """Call the app. Return the error to send to the client or to log, if any."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(LISTEN_AFTER, self._start_listening)
        called_at_stop[self._stop] = loop
        try:
            with self._cancel_scope:
                try:
                    await app(scope, self.receive, send)
                except BaseException as error:
                    # Free the variables of frames, because a frame that awaits a thread is in a
                    # reference cycle.
                    clear_frames(error.__traceback__)
                    raise
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - sent or logged
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
            self._messages.task_done()
        if message["type"] == "http.disconnect":
            self.leave()
        elif message.get("more_body"):
            self.state.deadline.extend()  # a large body may take longer to arrive
        elif self._listener:
            # The client may have disconnected while the body was unread. Let the listener notice
            # this before the endpoint starts.
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
            self._messages = asyncio.Queue()
            self._listener = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        while (message := await self._receive())["type"] != "http.disconnect":
            body = message.get("body", b"")
            if not self._messages.empty():  # join parts of a body, because they may be small
                body = self._messages.get_nowait().get("body", b"") + body
                self._messages.task_done()
            self._messages.put_nowait({**message, "body": body})
            if len(body) > MAX_AHEAD:
                await self._messages.join()  # wait until the app has received the message
        self.leave()
        self._messages.put_nowait(message)

    def leave(self) -> None:
        """Cancel the request, because the client has disconnected."""
        self._cancel(ClientDisconnect())

    def _stop(self) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(self.stop_seconds, self._cancel, StoppingError())

    def _cancel(self, reason: Exception) -> None:
        if self.is_complete:
            return
        self.reason = self.reason or reason
        # Cancel the scope first. Otherwise FastAPI would mistake the cancellation of a call to
        # Flyte for a cancellation by FastAPI.
        self._cancel_scope.cancel()
        # End the calls now, because the request cannot end while a thread waits for a call.
        self.state.calls.end()

    def _error_to_send(self, error: BaseException | None) -> BaseException | None:
        """Return the error to send, if any. ``error`` is the error that the app has raised."""
        if error and (failure := _first_failure(error)):
            return failure
        if self.reason:
            return self.reason
        if self.state.deadline.seconds_left() < 0:
            return TimeoutError()
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task and task.cancelling():
            raise error  # the server has cancelled the request
        return error


def _first_failure(error: BaseException) -> BaseException | None:
    """Return the first error that is no cancellation.

    If an app has several tasks, it raises an exception group, which contains the error of one task
    and the cancellations of the other tasks.
    """
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(_first_failure, error.exceptions)), None)
    return None if isinstance(error, CANCELLATIONS) else error

"""Cancels a request if the client disconnects, the deadline passes, or the server stops."""

import asyncio
import math
from concurrent import futures
from traceback import clear_frames

import anyio
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..calls.request_state import Deadline, RequestState, called_at_stop
from ..settings import Settings

CONNECTION_LOST = "passthrough.connection_lost"
"""A key in the ASGI scope of a request. The value is a future, which is done when the client has
disconnected. ``server.Protocol`` sets the future."""
LATE_AFTER = 0.5  # seconds; if the app reads a body later, the client may have disconnected before
LATE_PAUSES = [0.002] * 5  # seconds; pauses after a late body, to notice a disconnect
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

    ``server.Protocol`` reports a disconnect at once, unless the app does not read a body that is
    larger than 64 KiB. Then uvicorn does not read from the connection either, so the request ends
    when the app returns or the deadline passes. If the body belongs to a GET or to a pipelined
    request, ``server.Protocol`` closes the connection. Other servers report a disconnect only when
    the app receives a message, as Starlette does during a streaming response.
    """

    def __init__(self, receive: Receive, settings: Settings, request_id: str) -> None:
        self.reason: Exception | None = None  # the reason of the cancellation, if any
        self.stop_seconds = STOP_SECONDS
        self.is_complete = False  # whether the app has sent the whole response
        deadline = Deadline(settings.flyte_timeout, lambda: self._cancel(TimeoutError()))
        self.state = RequestState(deadline, request_id, settings)
        self._receive = receive
        self._late_at = math.inf  # when a body is late, in the time of the event loop
        self._cancel_scope = anyio.CancelScope()

    async def run(self, app: ASGIApp, scope: Scope, send: Send) -> BaseException | None:
        """Call the app. Return the error to send to the client or to log, if any."""
        loop = asyncio.get_running_loop()
        self._late_at = loop.time() + LATE_AFTER
        called_at_stop[self._stop] = loop
        connection_lost: asyncio.Future[None] | None = scope.get(CONNECTION_LOST)
        if connection_lost:
            connection_lost.add_done_callback(self.leave)
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
            if connection_lost:
                connection_lost.remove_done_callback(self.leave)
            self.state.end()
        return self._error_to_send(None)

    async def receive(self) -> Message:
        """Receive a message from the client."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.leave()
        elif message.get("more_body"):
            self.state.deadline.extend()  # a large body may take longer to arrive
        elif asyncio.get_running_loop().time() > self._late_at:
            # The client may have disconnected while the body was unread. Let the server notice this
            # before the endpoint starts. In each pause, the event loop reads from the connection.
            for pause in LATE_PAUSES:
                await asyncio.sleep(pause)
        return message

    def leave(self, _: object = None) -> None:
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

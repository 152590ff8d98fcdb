"""Cancels a request if the client disconnects, the deadline passes, or the server stops."""

import asyncio
from concurrent import futures
from traceback import clear_frames

import anyio
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..calls.request_state import Deadline, RequestState, called_at_stop
from ..settings import Settings

CONNECTION_LOST = "passthrough.connection_lost"
"""Under this key, the ASGI scope of a request contains a future. ``server.Protocol`` completes the
future when the client has disconnected. When the future is complete, `Cancellation` cancels the
request."""
OUTER_REQUEST = "passthrough.outer_request"
"""Under this key, the ASGI scope of the inner request of a tool call contains the state of the
agent's request to ``/mcp``."""
STOP_SECONDS = 10.0
"""Seconds until a stopping server cancels open requests: half of ``timeout_graceful_shutdown``."""
CANCELLATIONS = (
    ClientDisconnect,
    asyncio.CancelledError,
    futures.CancelledError,
    anyio.BrokenResourceError,
)
"""Errors that the app may raise because a request, or a call in a thread, was cancelled."""


class StoppingError(Exception):
    """The server stops before the response has begun."""


class Cancellation:
    """Runs the app for one request, and can cancel the app together with its calls to Flyte.

    `Cancellation` cancels the request when the client disconnects, when the deadline passes, or
    when the server stops. A stopping server cancels event streams at once, and other requests after
    `STOP_SECONDS`. A request with a complete response is never cancelled, because its background
    tasks may still be running.

    ``server.Protocol`` reports a disconnect immediately. There is one exception: while the app
    leaves more than 64 KiB of an upload unread, uvicorn does not read from the connection. If the
    client then disconnects, the request ends when the app returns or the deadline passes.
    `RequestBodyMiddleware` reads all other bodies.

    Other servers report a disconnect only when the app calls ``receive``. Starlette calls
    ``receive`` during a streaming response.
    """

    def __init__(
        self,
        receive: Receive,
        settings: Settings,
        request_id: str,
        outer: RequestState | None = None,
    ) -> None:
        self.reason: Exception | None = None  # why the request was cancelled, or None
        self.stop_seconds = STOP_SECONDS
        self.is_complete = False  # whether the app has sent the whole response
        deadline = Deadline(settings.flyte_timeout, lambda: self._cancel(TimeoutError()))
        self.state = RequestState(deadline, request_id, settings, outer)
        self._receive = receive
        self._cancel_scope = anyio.CancelScope()

    async def run(self, app: ASGIApp, scope: Scope, send: Send) -> BaseException | None:
        """Call the app, and return its error, or None.

        The middleware sends this error to the client, or logs it.
        """
        loop, finished = asyncio.get_running_loop(), ""
        called_at_stop[self._stop] = loop
        connection_lost: asyncio.Future[None] | None = scope.get(CONNECTION_LOST)
        if connection_lost:
            connection_lost.add_done_callback(self.leave)
        try:
            with self._cancel_scope:
                try:
                    await app(scope, self.receive, send)
                    finished = f"{scope['method']} {getattr(scope.get('route'), 'path', '')}"
                except BaseException as error:
                    # Free the local variables of the app's functions now. A function that awaits a
                    # thread is in a reference cycle, which keeps its variables in memory.
                    clear_frames(error.__traceback__)
                    raise
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - sent or logged
            return self._error_to_send(error)
        finally:
            called_at_stop.pop(self._stop, None)
            if connection_lost:
                connection_lost.remove_done_callback(self.leave)
            self.state.end(finished)
        return self._error_to_send(None)

    async def receive(self) -> Message:
        """Receive a message from the client."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.leave()
        elif message.get("more_body"):
            self.state.deadline.extend()  # allow more time while a large body arrives
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
        # Cancel the app first, and then its calls to Flyte. Otherwise the app could continue: a
        # task group of FastAPI ignores the CancelledError of a task that it has not cancelled.
        self._cancel_scope.cancel()
        # Also end the calls in threads, because the app cannot end while a thread waits for Flyte.
        self.state.calls.end()

    def _error_to_send(self, error: BaseException | None) -> BaseException | None:
        """Return the error to send or to log, or None. ``error`` is the exception of the app."""
        if error and (failure := _first_failure(error)):
            return failure
        if self.reason:
            return self.reason
        if self.state.deadline.seconds_left() < 0:
            return TimeoutError()
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task and task.cancelling():
            raise error  # the server, not `Cancellation`, has cancelled the request
        return error


def _first_failure(error: BaseException) -> BaseException | None:
    """Return the first error that is not a cancellation, or None.

    If one of several asyncio tasks of a request fails, the app raises an exception group with the
    error of the failed task and the cancellations of the other tasks.
    """
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(_first_failure, error.exceptions)), None)
    return None if isinstance(error, CANCELLATIONS) else error

"""All work for a request ends with it, and the request ends when its client leaves."""

import asyncio
import sys
from collections.abc import Collection
from concurrent import futures
from contextlib import suppress
from typing import Any

import flyte.errors
from anyio import BrokenResourceError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..calls.errors import StartError
from ..calls.make_safe import make_safe
from ..calls.request_calls import Limits, RequestCalls, current_calls
from ..calls.sdk import act_in, initialised
from .stopping import stopping

CALLS = "passthrough.calls"
"""The key of ASGI's scope for a request's `RequestCalls`, if something outside has made them."""
MOST_UNREAD = 16  # messages of a WebSocket
EVENTS = "text/event-stream"
COME_BACK = b"retry: 1000\n\n"
"""The end of an unfinished event stream: the client reconnects after this many milliseconds."""


class FlyteMiddleware:
    """Lets an app's endpoints call Flyte with the SDK, for as long as their request lasts.

    At start-up it makes the SDK safe (`make_safe`), before the app's own lifespan initialises
    Flyte. The app then uses the configuration from its own start-up, whatever other apps in the
    process do. When a client disconnects, its request and the request's calls to Flyte are
    cancelled. Background tasks belong to the request; other work that outlives it is cancelled.
    Event streams end when the server is asked to stop.
    """

    def __init__(
        self, app: ASGIApp, timeout: float = 30.0, data_addresses: Collection[str] = ()
    ) -> None:
        """Wrap an application.

        Args:
            app: The ASGI application.
            timeout: Seconds that Flyte may take to answer a call.
            data_addresses: Addresses of clusters outside Flyte's own domain, with ``https://``.
        """
        self.app = app
        self.limits = Limits(timeout, frozenset(data_addresses))
        self._flyte: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            try:
                make_safe()
                await self.app(scope, receive, self._noting(send))
            except StartError as error:  # a message without a traceback
                await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        calls: RequestCalls = scope.get(CALLS) or RequestCalls(self.limits)
        calls.limits = self.limits
        token = current_calls.set(calls)
        if flyte_config := self._flyte or self._initialised():
            act_in(flyte_config)
        client = (Client if scope["type"] == "http" else Socket)(calls, receive, send)
        try:
            async with client.present:
                await self.app(scope, client.receive, client.send)
        except (
            TimeoutError,
            asyncio.CancelledError,
            futures.CancelledError,  # from threads
            BaseExceptionGroup,
        ) as error:
            # FastAPI's queue of events may raise a group of this when it is cancelled.
            others = isinstance(error, BaseExceptionGroup) and error.split(BrokenResourceError)[1]
            is_stopped = stopping.begun and client.present.expired()
            if others or not (client.has_left or is_stopped):
                raise
            if not client.has_left:
                await client.send({"type": "http.response.body", "body": COME_BACK})
        finally:
            client.stop_listening()
            calls.end()
            current_calls.reset(token)

    def _initialised(self) -> Any:
        """Return Flyte's configuration, or None if Flyte is not initialised yet."""
        make_safe()
        with suppress(flyte.errors.InitializationError):
            self._flyte = initialised()
        return self._flyte

    def _noting(self, send: Send) -> Send:
        async def noting_send(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                self._initialised()
                stopping.listen()
            if not isinstance(sys.exception(), StartError):
                await send(message)

        return noting_send


class Client:
    """The client of a request.

    A server reports a disconnect only when ``receive()`` is called. This class calls it if a
    request takes longer than ``after`` seconds; few do.
    """

    def __init__(
        self, calls: RequestCalls, receive: Receive, send: Send, after: float = 1.0
    ) -> None:
        self.present = asyncio.timeout(None)
        """Expires when the client disconnects, or when it should reconnect."""
        self.has_left = False
        self._calls, self._receive, self._send = calls, receive, send
        self._is_read = False  # by the app
        self._listening: asyncio.Task[None] | None = None
        self._body, self._is_whole = bytearray(), False
        self._refusal: HTTPException | None = None
        self._news = asyncio.Event()
        self._timer = asyncio.get_running_loop().call_later(after, self._listen)

    def _listen(self) -> None:
        # A pending receive() reports a disconnect; after a complete response it does not matter.
        if not (self._is_read or self._timer.cancelled() or self._listening):
            self._listening = asyncio.create_task(self._await_disconnect())

    async def _await_disconnect(self) -> None:
        while True:
            try:
                message = await self._receive()
            except HTTPException as error:  # the body is too large, which the app may not mind
                self._refusal = error
            else:
                if message["type"] == "http.disconnect":
                    break
                self._body += message.get("body", b"")
                self._is_whole = not message.get("more_body", False)
            self._news.set()
        self._leave()
        if not self.present.expired():
            self.present.reschedule(asyncio.get_running_loop().time())

    def _leave(self) -> None:
        """End calls to Flyte now: the request can't end while one of its threads waits for them."""
        self.has_left = True
        self._calls.end()

    def stop_listening(self) -> None:
        """Stop reading from the connection."""
        stopping.leaves(self.present)
        self._timer.cancel()
        if self._listening:
            self._listening.cancel()

    async def receive(self) -> Message:
        """Receive a message from the client."""
        if self._listening:
            await self._news.wait()
            self._news.clear()
            if self._refusal:
                raise self._refusal
            body, self._body = bytes(self._body), bytearray()
            return {"type": "http.request", "body": body, "more_body": not self._is_whole}
        self._is_read = True
        try:
            message = await self._receive()
        finally:
            self._is_read = False
            if self._timer.when() <= asyncio.get_running_loop().time():
                self._listen()
        if message["type"] == "http.disconnect" and not self._timer.cancelled():
            self._leave()
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the response."""
        if message["type"] == "http.response.start":
            if Headers(raw=message.get("headers", ())).get("content-type", "").startswith(EVENTS):
                stopping.ends(self.present)
        elif message["type"] == "http.response.body" and not message.get("more_body"):
            self.stop_listening()  # background tasks come after this and are not cancelled
        await self._send(message)


class Socket(Client):
    """The client of a WebSocket.

    This class reads messages even while the endpoint does not. If the client leaves at that time,
    the endpoint's calls to Flyte are cancelled. An endpoint that reads gets the disconnect message
    instead. ``MOST_UNREAD`` unread messages also cancel the calls: nothing would report that the
    client has left.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._timer.cancel()
        self._unread = asyncio.Queue[Message](MOST_UNREAD)

    async def _await_disconnect(self) -> None:
        kind = ""
        while kind != "websocket.disconnect":
            kind = (message := await self._receive())["type"]
            await self._unread.put(message)
            if not self._is_read and (kind == "websocket.disconnect" or self._unread.full()):
                self._leave()

    async def receive(self) -> Message:
        """Receive a message from the client."""
        if not self._listening:  # the WebSocket is not accepted yet
            return await self._receive()
        self._is_read = True
        try:
            return await self._unread.get()
        finally:
            self._is_read = False

    async def send(self, message: Message) -> None:
        """Send a message."""
        await self._send(message)
        if message["type"] == "websocket.accept":
            self._listening = asyncio.create_task(self._await_disconnect())

"""All work for a client ends when it disconnects."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .headers import LARGEST_BODY


class DisconnectMiddleware:
    """Cancels a request whose client has disconnected, and with it the calls to Flyte made for it.

    A server reports a disconnect only when ``receive()`` is called. That is done here once a
    request takes longer than ``after`` seconds; few do.
    """

    def __init__(self, app: ASGIApp, after: float = 1.0) -> None:
        self.app = app
        self.after = after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope. WebSockets are left to their endpoints, which have to read them."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        client = _Client(receive, send, self.after)
        try:
            async with client.present:
                await self.app(scope, client.receive, client.send)
        except TimeoutError:
            if not client.present.expired():
                raise
        finally:
            client.stop_listening()


class _Client:
    """The other end of a request."""

    def __init__(self, receive: Receive, send: Send, after: float) -> None:
        self.present = asyncio.timeout(None)
        """Expires when the client disconnects."""
        self._receive, self._send = receive, send
        self._is_read = False
        self._body, self._heard, self._is_whole = bytearray(), 0, False
        self._news = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(after, self._listen)

    def _listen(self) -> None:
        if not self._is_read:  # a pending receive() will report it
            self._listening = asyncio.create_task(self._await_disconnect())

    async def _await_disconnect(self) -> None:
        while (message := await self._receive())["type"] != "http.disconnect":
            body = message.get("body", b"")
            if self._heard <= LARGEST_BODY:  # of more, whoever reads it has been told already
                self._body += body
            self._heard += len(body)
            self._is_whole = not message.get("more_body", False)
            self._news.set()
        self.present.reschedule(asyncio.get_running_loop().time())

    def stop_listening(self) -> None:
        self._timer.cancel()
        if self._listening is not None:
            self._listening.cancel()

    async def receive(self) -> Message:
        if self._listening is not None:
            await self._news.wait()
            self._news.clear()
            body, self._body = bytes(self._body), bytearray()
            return {"type": "http.request", "body": body, "more_body": not self._is_whole}
        self._is_read = True
        try:
            return await self._receive()
        finally:
            self._is_read = False
            if self._timer.when() <= asyncio.get_running_loop().time():
                self._listen()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.stop_listening()  # background tasks come after this and are not cancelled
        await self._send(message)

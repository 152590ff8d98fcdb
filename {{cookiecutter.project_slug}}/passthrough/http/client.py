"""The client of a request or a WebSocket: what it sends, and whether it has left."""

import asyncio

import anyio
from starlette.types import Message, Receive

from ..calls.request_calls import RequestCalls

LISTEN_AFTER = 1.0  # seconds; few requests take that long


class Client:
    """What the client sends, and whether it is still there.

    Servers report that a client has left only to whoever receives. So messages are received ahead
    of the app: of a request that takes more than a second, and of a WebSocket that is accepted. Two
    are kept at most: a client who leaves while the app does not read further ones goes unnoticed.
    """

    def __init__(self, receive: Receive, scope: anyio.CancelScope, calls: RequestCalls) -> None:
        """Begin.

        When the client leaves, the calls end. The scope is cancelled, too, unless the app of a
        WebSocket is receiving: then it gets the disconnect.
        """
        self.has_left = False
        self._receive, self._scope, self._calls = receive, scope, calls
        self._is_receiving = self._is_over = False
        self._ahead: asyncio.Queue[Message] | None = None
        self._listener: asyncio.TimerHandle | asyncio.Task[None] | None = None

    async def receive(self) -> Message:
        """Receive a message for the app."""
        self._is_receiving = True
        try:
            message = await (self._ahead.get() if self._ahead else self._next())
        finally:
            self._is_receiving = False
        if self._ahead and message["type"].endswith(".disconnect"):
            self._ahead.put_nowait(message)  # as servers do: all later messages are this one
        return message

    async def _next(self) -> Message:
        message = await self._receive()
        if message["type"].endswith(".disconnect") and not self._is_over:
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
        self._listener = asyncio.get_running_loop().call_later(LISTEN_AFTER, self.listen)

    def listen(self) -> None:
        """Receive ahead from here on."""
        if self._is_receiving:  # only one task at a time may call the server's receive()
            self.listen_later()
        else:
            self._ahead = asyncio.Queue(1)
            self._listener = asyncio.create_task(self._listen(self._ahead))

    async def _listen(self, ahead: asyncio.Queue[Message]) -> None:
        while not self.has_left:
            message = await self._next()
            app_gets_it = self._is_receiving and ahead.empty()
            if self.has_left and not app_gets_it:
                self._scope.cancel()
            await ahead.put(message)

    def may_leave(self) -> None:
        """Let what comes next, such as background tasks, go on after the client has left."""
        self._is_over = True

    def stop_listening(self) -> None:
        """Receive nothing more: the app has returned."""
        self.may_leave()
        if self._listener:
            self._listener.cancel()

"""Counts open calls, and ends those whose client has left."""

import asyncio
from collections import Counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class OpenCalls:
    """Answers calls, counts them, and cancels them if the client leaves."""

    def __init__(self) -> None:
        self._count: Counter[str] = Counter()

    def __getitem__(self, method: str) -> int:
        """Return the number of open calls of a method, such as ``WatchActionDetails``."""
        return self._count[method]

    async def answer(
        self, method: str, application: ASGIApp, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Let ``application`` answer a call, until its client leaves.

        The Connect server notices that a client has left only when it sends something. A silent
        stream never sends anything, nor does a call that hangs on purpose.
        """
        self._count[method] += 1
        try:
            await _until_left(application, scope, receive, send)
        finally:
            self._count[method] -= 1


async def _until_left(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    messages: asyncio.Queue[Message] = asyncio.Queue()

    async def listen() -> None:
        while True:
            message = await receive()
            messages.put_nowait(message)
            if message["type"] == "http.disconnect":
                return

    async def serve() -> None:
        await app(scope, messages.get, send)

    serving, listening = asyncio.create_task(serve()), asyncio.create_task(listen())
    try:
        await asyncio.wait({serving, listening}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
    finally:
        listening.cancel()
        serving.cancel()
        # Streams turn a cancellation into another error.
        await asyncio.gather(serving, return_exceptions=True)

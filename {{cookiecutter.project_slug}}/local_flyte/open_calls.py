"""The calls that are being answered: how many there are, and what ends them."""

import asyncio
from collections import Counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class OpenCalls:
    """Answers calls, counts them, and cancels the answer of a client that has left."""

    def __init__(self) -> None:
        self._count: Counter[str] = Counter()

    def __getitem__(self, method: str) -> int:
        """How many calls of a method, such as ``WatchActionDetails``, are being answered."""
        return self._count[method]

    async def answer(
        self, method: str, application: ASGIApp, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Let ``application`` answer a call, for as long as its client is there.

        The Connect server looks for a client's leaving only when it has something to send, which
        a stream about something silent never has, nor a call that is made to hang.
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
        # Streams turn the cancellation into an error of their own.
        await asyncio.gather(serving, return_exceptions=True)

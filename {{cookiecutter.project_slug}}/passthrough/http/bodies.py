"""JSON in bodies: how many values it may have, and who parses when.

FastAPI parses a body before it asks Flyte who sent it, and holds it until the endpoint returns. A
megabyte of small values takes 20 MB and 50 ms. So values are counted before they are parsed, and
large bodies wait for each other.
"""

import asyncio
import re
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..limits import limits

LARGE = 64 * 1024  # bytes
AT_ONCE = 2  # large bodies
TURN_SECONDS = 5.0
"""After which the next large body is parsed, although Flyte has not answered for this one."""
HAS_TURN = "passthrough.has_turn"
"""The key of ASGI's scope that says that a request is a part of another one, which has the turn."""
ESCAPES, TEXTS = re.compile(rb"\\."), re.compile(rb'"[^"]*"')


class LargeBodies:
    """Middleware that counts the values in large JSON bodies, and lets in two at a time.

    The turn ends with the start of the response, since the endpoint has returned by then.
    """

    def __init__(self, app: ASGIApp, largest: int) -> None:
        """Wrap an application whose bodies have at most ``largest`` bytes, which others check."""
        self._app, self._largest = app, largest
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        headers = Headers(scope=scope) if scope["type"] == "http" else {}
        length = headers.get("content-length", "")
        is_small = length.isdecimal() and len(length) < 6 and int(length) <= LARGE
        if is_small or "json" not in headers.get("content-type", ""):
            await self._app(scope, receive, send)
            return
        parts, size, message = list[bytes](), 0, dict[str, Any](more_body=True)
        while message.get("more_body") and size <= self._largest:
            message = dict(await receive())
            parts.append(message.get("body", b""))
            size += len(parts[-1])
        if message["type"] == "http.request":
            message = {**message, "body": b"".join(parts)}
            check_count(message["body"])
        unread: list[Message] = [message]

        async def replay() -> Message:
            return unread.pop() if unread else await receive()

        if size <= LARGE or HAS_TURN in scope:
            await self._app(scope, replay, send)
            return
        await self._turns.acquire()
        held = [self._turns.release]

        def end() -> None:
            if held:
                held.pop()()

        async def send_and_end(message: Message) -> None:
            end()
            await send(message)

        scope[HAS_TURN] = True
        timer = asyncio.get_running_loop().call_later(TURN_SECONDS, end)
        try:
            await self._app(scope, replay, send_and_end)
        finally:
            timer.cancel()
            end()


def check_count(body: bytes) -> None:
    """Check how many values JSON has, by its commas and brackets outside of texts.

    Raises:
        HTTPException: More than ``Limits.values``.
    """
    if _count(body) > limits().values:
        outside = TEXTS.sub(b"", ESCAPES.sub(b"", body))
        if _count(outside) > limits().values:
            raise HTTPException(413, f"JSON may have up to {limits().values:,} values")


def _count(body: bytes) -> int:
    return body.count(b",") + body.count(b"[") + body.count(b"{")

"""JSON in bodies: how many values it may have (beyond: 413), and who parses when.

FastAPI parses a body before it asks Flyte who sent it, and holds it until the endpoint returns. A
megabyte of small values takes 20 MB and 50 ms. So values are counted before they are parsed, and
large bodies wait for each other.
"""

import asyncio
import re

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..calls.request_calls import request_calls
from ..calls.turns import Turns
from ..limits import limits
from .callers import IS_PART

LARGE = 64 * 1024  # bytes
AT_ONCE = 2  # large bodies
TURN_SECONDS = 1.0
"""After which the next large body is parsed, although Flyte has not answered for this one."""
ESCAPES, TEXTS = re.compile(rb"\\."), re.compile(rb'"[^"]*"')


class LargeBodies:
    """Middleware that counts the values in large JSON bodies, and lets in two at a time.

    The turn ends with the start of the response, since the endpoint has returned by then.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app
        self._turns = Turns()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        sent = scope.get("headers", ())
        if not any(name == b"content-type" and b"json" in value.lower() for name, value in sent):
            await self._app(scope, receive, send)
            return
        unread = [await _whole_body(receive)]

        async def replay() -> Message:
            return unread.pop() if unread else await receive()

        # An agent's message has had its turn when it makes a request.
        if len(unread[0].get("body", b"")) <= LARGE or IS_PART in scope:
            await self._app(scope, replay, send)
            return
        end_turn = await self._turns.begin(AT_ONCE, request_calls().sender.short_hash)

        async def send_and_end(message: Message) -> None:
            end_turn()
            await send(message)

        timer = asyncio.get_running_loop().call_later(TURN_SECONDS, end_turn)
        try:
            await self._app(scope, replay, send_and_end)
        finally:
            timer.cancel()
            end_turn()


async def _whole_body(receive: Receive) -> Message:
    """Return a request's body as one message, or the message that its client has left.

    Raises:
        HTTPException: It has more than ``Limits.values``, by the commas and brackets outside of
            texts.
    """
    parts, message = bytearray(), await receive()
    while message.get("more_body"):
        parts += message.get("body", b"")
        message = await receive()
    if message["type"] != "http.request":
        return message
    body, most = bytes(parts) + message.get("body", b""), limits().values
    if _count(body) > most and _count(TEXTS.sub(b"", ESCAPES.sub(b"", body))) > most:
        raise HTTPException(413, f"JSON may have up to {most:,} values")
    return {"type": "http.request", "body": body}


def _count(body: bytes) -> int:
    return body.count(b",") + body.count(b"[") + body.count(b"{")

"""Limits of request bodies: their size, their senders, and how many are in memory or on disk."""

import asyncio
import math
from contextlib import nullcontext
from weakref import WeakValueDictionary

from starlette.datastructures import Headers
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..calls.request_state import this_request
from ..calls.slots import LARGE_BODY, MANY_VALUES
from ..limits import limits
from .callers import find_caller

MAX_UNAUTHENTICATED_BODY = 4 * 1024
"""In bytes. Before a larger body is read, the app asks Flyte for the caller."""
BEFORE_VALUES = b"[", b"{", b",", b":"  # in JSON: a cheap count of values, before they are parsed


def size_of_body(scope: Scope) -> float:
    """Return the number of bytes of a request's body; infinity if the client has not told it."""
    headers = dict(scope["headers"])
    return math.inf if b"transfer-encoding" in headers else int(headers.get(b"content-length", 0))


class RequestBodyMiddleware:
    """Reads large bodies only from callers whom Flyte knows, and few of them at the same time.

    From others it reads up to `MAX_UNAUTHENTICATED_BODY`. A body is read after routing, up to its
    route's ``max_body_size``. A large JSON body needs a memory slot (``calls/slots.py``) once it
    has arrived, because FastAPI then parses it. The request of a tool call has no length here: the
    agent's message, of which it is a part, has the slot.
    """

    def __init__(self, app: ASGIApp, largest: int) -> None:
        self._app, self._largest = app, largest
        self._uploads = WeakValueDictionary[str | None, asyncio.Semaphore]()
        self._limited = RequestBodyLimitMiddleware(self._receive, largest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        has_body = scope["type"] == "http" and size_of_body(scope)
        await (self._limited if has_body else self._app)(scope, receive, send)

    async def _receive(self, scope: Scope, receive: Receive, send: Send) -> None:
        size, state, received, values = size_of_body(scope), this_request(), 0, 0
        is_json = "json" in Headers(scope=scope).get("content-type", "").lower()
        whose = state.caller.hash
        if size > MAX_UNAUTHENTICATED_BODY and whose:
            whose = (await find_caller(HTTPConnection(scope))).subject or whose

        async def receive_json() -> Message:
            nonlocal received, values
            message = await receive()
            part = message.get("body", b"")
            received += len(part)
            values += sum(map(part.count, BEFORE_VALUES))
            is_whole = message["type"] == "http.request" and not message.get("more_body")
            if is_whole and (received > LARGE_BODY or values > MANY_VALUES):
                await state.body_slot.acquire()  # `ResponseSender` releases it
            return message

        uploads = self._uploads.setdefault(whose, asyncio.Semaphore(limits().max_uploads_per_user))
        async with uploads if size > self._largest else nullcontext():
            await self._app(scope, receive_json if is_json else receive, send)

"""Limits the size and the number of request bodies in memory and on disk."""

import asyncio
import math
from contextlib import nullcontext
from weakref import WeakValueDictionary

from starlette.datastructures import Headers
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..calls.request_state import this_request
from ..calls.slots import LARGE_BODY
from ..limits import limits
from .callers import find_caller

MAX_UNAUTHENTICATED_BODY = 4 * 1024
"""Maximum size of a body, in bytes, that the app reads before Flyte has verified the caller."""


def size_of_body(scope: Scope) -> float:
    """Return the size of the request body in bytes, or infinity if the client sends no length."""
    headers = dict(scope["headers"])
    return math.inf if b"transfer-encoding" in headers else int(headers.get(b"content-length", 0))


class RequestBodyMiddleware:
    """Reads large bodies only from verified callers, and only a few at the same time.

    On private paths, Flyte must verify the caller before this middleware reads a body of more than
    `MAX_UNAUTHENTICATED_BODY`. The maximum size of a body is the ``max_body_size`` of the route, or
    of the app. A body is an upload if its size is unknown or above the maximum of the app. Each
    caller can send ``max_uploads_per_user`` uploads at the same time; more uploads must wait.

    When a large JSON body has arrived, the request acquires a memory slot (``calls/slots.py``)
    before FastAPI parses the body. This middleware ignores the inner request of a tool call, which
    has no ``Content-Length``. The agent's request, which contains the tool call, acquires a slot if
    its body is large.
    """

    def __init__(self, app: ASGIApp, max_body_size: int) -> None:
        self._app, self._max_body_size = app, max_body_size
        self._uploads = WeakValueDictionary[str | None, asyncio.Semaphore]()
        self._limited = RequestBodyLimitMiddleware(self._receive, max_body_size)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        has_body = scope["type"] == "http" and size_of_body(scope)
        await (self._limited if has_body else self._app)(scope, receive, send)

    async def _receive(self, scope: Scope, receive: Receive, send: Send) -> None:
        size, state, received = size_of_body(scope), this_request(), 0
        is_json = "json" in Headers(scope=scope).get("content-type", "").lower()
        caller = state.caller.hash
        if size > MAX_UNAUTHENTICATED_BODY and caller:
            caller = (await find_caller(HTTPConnection(scope))).subject or caller

        async def receive_json() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            is_whole = message["type"] == "http.request" and not message.get("more_body")
            if is_whole and received > LARGE_BODY and not state.message_slot.is_held:
                await state.body_slot.acquire()  # `ResponseSender` releases this slot
            return message

        uploads = self._uploads.setdefault(caller, asyncio.Semaphore(limits().max_uploads_per_user))
        async with uploads if size > self._max_body_size else nullcontext():
            await self._app(scope, receive_json if is_json else receive, send)

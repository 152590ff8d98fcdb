"""Limits the size and the number of request bodies in memory and on disk."""

import asyncio
import math
from collections import deque
from weakref import WeakValueDictionary

from starlette.datastructures import Headers
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..calls.request_state import this_request
from ..calls.slots import LARGE_BODY
from ..limits import limits
from .callers import find_caller


def size_of_body(scope: Scope) -> float:
    """Return the size of the request body in bytes, or infinity if the client sends no length."""
    headers = dict(scope["headers"])
    return math.inf if b"transfer-encoding" in headers else int(headers.get(b"content-length", 0))


class RequestBodyMiddleware:
    """Reads bodies, and limits how many uploads and large JSON bodies the app holds.

    A body is an upload if its size is unknown, or above the maximum of the app. On private paths,
    Flyte must verify the caller before the app reads an upload. Each caller can send
    ``max_uploads_per_user`` uploads at the same time; more uploads must wait.

    This middleware reads all other bodies before it calls the app. Otherwise uvicorn would not
    notice a disconnect while the app leaves a part of the body unread (see `Cancellation`).

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
        state, received, read = this_request(), 0, deque[Message]()
        is_json = "json" in Headers(scope=scope).get("content-type", "").lower()

        async def receive_part() -> Message:
            nonlocal received
            message = read.popleft() if read else await receive()
            received += len(message.get("body", b""))
            is_whole = message["type"] == "http.request" and not message.get("more_body")
            if is_whole and is_json and received > LARGE_BODY:
                state.hold_body()  # before `acquire`, so that no call of the request releases it
                await state.slot.acquire(state.deadline)
            return message

        if size_of_body(scope) > self._max_body_size:
            async with await self._upload_slots(scope):
                await self._app(scope, receive_part, send)
            return
        read.append(await receive())
        while read[-1].get("more_body"):
            read.append(await receive())
        await self._app(scope, receive_part, send)

    async def _upload_slots(self, scope: Scope) -> asyncio.Semaphore:
        caller = this_request().caller.hash
        if caller:
            caller = (await find_caller(HTTPConnection(scope))).subject or caller
        slots = asyncio.Semaphore(limits().max_uploads_per_user)
        return self._uploads.setdefault(caller, slots)

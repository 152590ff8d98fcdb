"""Which bodies are read, from whom, and how many at once."""

import asyncio
from contextlib import nullcontext
from weakref import WeakValueDictionary

from starlette.datastructures import Headers
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..calls.request_state import this_request
from .callers import OUTER_TURN, find_caller
from .door import IS_PUBLIC
from .exchange import size_of_body

UNASKED = 4 * 1024  # bytes: for a larger body, Flyte is asked first who sends it
LARGE = 64 * 1024  # bytes: for a larger body, its request needs a turn
UPLOADS = 5  # of a person at once, because of the disk: bodies above ``LARGEST_BODY``


class Bodies:
    """Middleware that takes bodies only from those whom Flyte knows, one large at a time.

    Of others, only up to `UNASKED` is read. Up to `LARGE`, JSON takes 30 ms and up to 3 MB.
    FastAPI keeps a JSON body, parsed, until the request ends, and a megabyte of small values takes
    25 MB: so a caller, with whatever token, has one large body at a time. A body is read after
    routing, up to its route's ``max_body_size``.
    """

    def __init__(self, app: ASGIApp, largest: int) -> None:
        self._app, self._largest = app, largest
        self._uploads = WeakValueDictionary[str | None, asyncio.Semaphore]()
        self._limited = RequestBodyLimitMiddleware(self._receive, largest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        has_body = scope["type"] == "http" and size_of_body(scope)  # else nothing is to limit
        await (self._limited if has_body else self._app)(scope, receive, send)

    async def _receive(self, scope: Scope, receive: Receive, send: Send) -> None:
        # An agent's message has been read in turn, with the bodies of its requests.
        if OUTER_TURN in scope:
            await self._app(scope, receive, send)
            return
        size = size_of_body(scope)
        if size > UNASKED and not scope[IS_PUBLIC]:
            await find_caller(HTTPConnection(scope))
        turn, parts = this_request().turn, list[bytes]()
        message: Message = {"more_body": True}

        async def receive_whole() -> Message:
            nonlocal message
            if not message.get("more_body"):  # the body has been received
                return await receive()
            if size > LARGE:
                await turn.begin(needs_place=False)
            while message.get("more_body"):
                message = await receive()
                parts.append(message.get("body", b""))
            body = b"".join(parts)
            parts.clear()
            if len(body) > LARGE:
                turn.keeps_line = True
                await turn.begin(needs_place=is_json)  # other bodies are not parsed
            elif size > LARGE:
                turn.let_go()
            return {**message, "body": body}

        is_json = "json" in Headers(scope=scope).get("content-type", "").lower()
        is_whole = is_json or size <= self._largest  # FastAPI reads it whole, whatever its type
        uploads = self._uploads.setdefault(turn.whose, asyncio.Semaphore(UPLOADS))
        async with uploads if size > self._largest else nullcontext():
            await self._app(scope, receive_whole if is_whole else receive, send)

"""Which bodies are read, from whom, and how many at once."""

import asyncio
from contextlib import nullcontext
from weakref import WeakValueDictionary

from starlette.datastructures import Headers
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..calls.request_state import this_request
from .callers import find_caller
from .exchange import size_of_body
from .middleware import IS_PUBLIC

MAX_UNAUTHENTICATED_BODY = 4 * 1024  # bytes: for a larger body, Flyte is asked first who sends it
UPLOADS = 5  # of a person at once, because of the disk: bodies above ``MAX_BODY_SIZE``


class RequestBodyMiddleware:
    """Middleware that takes bodies only from those whom Flyte knows; large ones need a slot.

    Of others, only up to `MAX_UNAUTHENTICATED_BODY` is read. FastAPI keeps a JSON body, parsed,
    until the request ends, and a megabyte of small values takes 25 MB. A body is read after routing, up to its
    route's ``max_body_size``.
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
        size, state, received = size_of_body(scope), this_request(), 0
        is_json = "json" in Headers(scope=scope).get("content-type", "").lower()
        whose = state.caller_hash
        if size > MAX_UNAUTHENTICATED_BODY and not scope[IS_PUBLIC]:
            whose = (await find_caller(HTTPConnection(scope))).subject or whose

        async def receive_in_slot() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if not message.get("more_body"):  # the last part: the app parses the body now
                # Values and literals of them take twice as much as a message.
                await state.slot.acquire(2 * received, until_end=True)
            return message

        uploads = self._uploads.setdefault(whose, asyncio.Semaphore(UPLOADS))
        async with uploads if size > self._largest else nullcontext():
            await self._app(scope, receive_in_slot if is_json else receive, send)

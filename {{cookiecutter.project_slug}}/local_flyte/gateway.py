"""The entry for calls: identifies the caller, and passes the call to its service."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from connectrpc.code import Code
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .access import CALLER
from .people import Person

MAX_RECEIVED = 10_000  # calls that are kept, with their credentials; older ones are forgotten


@dataclass(frozen=True)
class ReceivedCall:
    """A call that was received, admitted or not."""

    service: str
    """Full name, such as ``flyteidl2.auth.IdentityService``."""
    method: str
    headers: Mapping[str, str] = field(repr=False)
    """By lower-case name; not in ``repr``, since they include credentials."""
    person: Person | None
    """The owner of the credentials; None if it is unknown."""


class Gateway:
    """An ASGI application with every service of the local Flyte, by path."""

    def __init__(
        self,
        find: Callable[[Mapping[str, str]], Person | None],
        services: Mapping[str, ASGIApp],
    ) -> None:
        """Create the application.

        Args:
            find: Returns the person who makes a call with these headers, if it is known.
            services: The services by path.
        """
        self.received = deque[ReceivedCall](maxlen=MAX_RECEIVED)
        self.open_calls: Counter[str] = Counter()
        """The number of open calls by method, such as ``WatchActionDetails``, and by request id."""
        self._find = find
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Record a call, and pass it to its service."""
        # The stubs keep the headers' order; here each name has one value (RFC 9110, 5.3).
        headers: dict[str, str] = {}
        for name, value in Headers(scope=scope).items():
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        someone = self._find(headers)
        service, _, method = scope["path"].lstrip("/").rpartition("/")
        self.received.append(ReceivedCall(service, method, headers, someone))
        CALLER.set(someone)
        if (application := self._services.get(f"/{service}")) is None:
            # Clients of streams take only the status, which means "unimplemented" in Connect.
            message = f"{service}/{method} is not part of the local Flyte"
            answer = JSONResponse({"code": Code.UNIMPLEMENTED.value, "message": message}, 404)
            await answer(scope, receive, send)
            return
        counted = method, headers.get("x-request-id", "")
        self.open_calls.update(counted)
        try:
            await _answer(application, scope, receive, send)
        finally:
            self.open_calls.subtract(counted)


async def _answer(application: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Let ``application`` answer a call, until its client leaves.

    The Connect server notices that a client has left only when it sends something. A silent stream
    never sends anything, nor does a call that hangs on purpose.
    """
    messages: asyncio.Queue[Message] = asyncio.Queue()

    async def listen() -> None:
        while True:
            message = await receive()
            messages.put_nowait(message)
            if message["type"] == "http.disconnect":
                return

    serving = asyncio.ensure_future(application(scope, messages.get, send))
    listening = asyncio.create_task(listen())
    try:
        await asyncio.wait({serving, listening}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
    finally:
        listening.cancel()
        serving.cancel()
        # Streams turn a cancellation into another error.
        await asyncio.gather(serving, return_exceptions=True)

"""The entry for calls: who calls, whether they may, and which calls fail on purpose.

The gateway identifies the caller; an interceptor in front of every service knows the right that a
method needs, so services check nothing. Rights depend on a role, never on who started a run.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.request import RequestContext
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .people import Mode, Person

MAX_RECEIVED = 10_000  # calls that are kept, with their credentials; older ones are forgotten
Request = TypeVar("Request")
Response = TypeVar("Response")
Item = TypeVar("Item")
Context = RequestContext[Any, Any]
"""What a service gets besides the request; few need it."""

CALLER: ContextVar[Person | None] = ContextVar("caller")
"""The caller of the current call; None if it is unknown."""
NEEDS_NO_RIGHT = {"UserInfo", "SelectCluster", "ListProjects"}
"""Every known caller may call these."""
STREAM = "application/connect+"
"""How the content type of several messages begins, in the Connect protocol."""
IN_CHUNKS = 2048
"""Bytes: an answer below says its length in front, as Go's HTTP server does."""
NEED_VIEW = ("Get", "List", "Watch", "Tail", "CreateDownloadLink")
"""How the methods begin that change nothing. Every other method needs the right to run."""


def known_caller() -> Person:
    """Return the caller of the current call, or raise UNAUTHENTICATED if it is unknown."""
    if (someone := CALLER.get()) is None:
        raise ConnectError(Code.UNAUTHENTICATED, "missing or unknown credentials")
    return someone


def found(item: Item | None, description: str) -> Item:
    """Return what was looked up, or raise NOT_FOUND if it is None."""
    if item is None:
        raise ConnectError(Code.NOT_FOUND, f"there is no {description}")
    return item


def key_of(id_: Any) -> tuple[str, str, str]:
    """Return what identifies it here: not its organization, which the SDK makes up."""
    return id_.project, id_.domain, id_.name


def invalid(message: str) -> ConnectError:
    """Return the error for an invalid argument."""
    return ConnectError(Code.INVALID_ARGUMENT, message)


class Faults:
    """Calls that fail or hang on purpose, by method name."""

    def __init__(self) -> None:
        self._errors: dict[str, tuple[int, deque[ConnectError]]] = {}
        self._held: dict[str, tuple[int, asyncio.Event]] = {}

    def fail(self, method: str, error: ConnectError, times: int, after: int) -> None:
        """Make the next ``times`` calls fail with ``error`` after they have sent some messages."""
        self._errors[method] = after, deque([error] * times)

    def hold(self, method: str, after: int) -> None:
        """Make calls of ``method`` hang, after they have sent ``after`` messages."""
        self._held[method] = after, asyncio.Event()

    def release(self, method: str) -> None:
        if method in self._held:
            self._held.pop(method)[1].set()

    def clear(self) -> None:
        self._errors.clear()
        for method in tuple(self._held):
            self.release(method)

    async def wait(self, method: str, sent: int = 0) -> None:
        """Wait, if calls of ``method`` hang after this number of messages."""
        after, released = self._held.get(method, (0, None))
        if released is not None and sent >= after:
            await released.wait()

    def check(self, method: str, sent: int = 0) -> None:
        """Raise the error for the next call of ``method``, if there is one."""
        after, errors = self._errors.get(method, (0, None))
        if errors and sent >= after:
            raise errors.popleft()


@dataclass
class Access:
    """Connect interceptor that admits or refuses calls as a Flyte cluster would."""

    _faults: Faults
    _mode: Mode

    async def intercept_unary(
        self,
        call_next: Callable[[Request, Context], Awaitable[Response]],
        request: Request,
        ctx: Context,
    ) -> Response:
        await self._admit(ctx)
        return await call_next(request, ctx)

    async def intercept_server_stream(
        self,
        call_next: Callable[[Request, Context], AsyncGenerator[Response]],
        request: Request,
        ctx: Context,
    ) -> AsyncGenerator[Response]:
        await self._admit(ctx)
        method, sent = ctx.method().name, 0
        async with aclosing(call_next(request, ctx)) as responses:
            async for response in responses:
                await self._faults.wait(method, sent)
                if sent:
                    self._faults.check(method, sent)
                yield response
                sent += 1
        await self._faults.wait(method, sent)  # the stream does not end, either

    async def _admit(self, ctx: Context) -> None:
        method = ctx.method().name
        await self._faults.wait(method)
        self._faults.check(method)
        if self._mode is not Mode.UNION:
            return
        someone = known_caller()
        if someone.expired:
            raise ConnectError(Code.UNAUTHENTICATED, "the credentials are no longer valid")
        right = "view" if method.startswith(NEED_VIEW) else "run"
        may = someone.can_run if right == "run" else someone.can_view
        if not may and method not in NEEDS_NO_RIGHT:
            message = f"{someone.name} may not {right} in this project"
            raise ConnectError(Code.PERMISSION_DENIED, message)


@dataclass(frozen=True)
class ReceivedCall:
    """A call that was received, admitted or not."""

    method: str
    headers: Mapping[str, str] = field(repr=False)
    """By lower-case name; not in ``repr``, since they include credentials."""
    person: Person | None
    """The owner of the credentials; None if it is unknown."""


class Gateway:
    """An ASGI application with every service of the local Flyte, by path."""

    def __init__(
        self, find: Callable[[Mapping[str, str]], Person | None], services: Mapping[str, ASGIApp]
    ) -> None:
        """Serve by path, for the person whom ``find`` returns for a call's headers, if known."""
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
        self.received.append(ReceivedCall(method, headers, someone))
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
            await _answer(application, scope, receive, _telling_lengths(send))
        finally:
            self.open_calls.subtract(counted)


def _telling_lengths(send: Send) -> Send:
    """Tell the length of a small single answer, as Go's server does, in which Flyte is written."""
    start: Message | None = None

    async def send_with_length(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start":
            kind = Headers(raw=message["headers"]).get("content-type", "")
            if not kind.startswith(STREAM):
                start = message
                return
        if start:
            headers, body = [*start["headers"]], message.get("body", b"")
            if not message.get("more_body") and len(body) < IN_CHUNKS:
                headers.append((b"content-length", b"%d" % len(body)))
            await send({**start, "headers": headers})
            start = None
        await send(message)

    return send_with_length


async def _answer(application: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Let ``application`` answer a call, until its client leaves.

    The Connect server would notice that only when it sends something.
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

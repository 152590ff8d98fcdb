"""Authentication and authorization of calls, and faults that tests inject into calls.

The gateway finds the caller with a function of ``people.py``. An interceptor in front of every
service checks the right that a method needs. Rights depend on the caller, never on the run owner.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
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

MAX_RECEIVED = 10_000  # maximum number of recorded calls; the server drops the oldest
# Maximum wait of a call for the other callers of a `Lockstep`, in seconds. Without this maximum, a
# waiting caller could block forever, because it may hold a lock that another caller needs.
LOCKSTEP_SECONDS = 5.0
Request = TypeVar("Request")
Response = TypeVar("Response")
Item = TypeVar("Item")
Context = RequestContext[Any, Any]

CALLER: ContextVar[Person | None] = ContextVar("caller")
"""The user who makes the current call; None if the credentials are missing or invalid."""
CALL: ContextVar["ReceivedCall"] = ContextVar("call")
NEEDS_NO_RIGHT = {"UserInfo", "SelectCluster", "ListProjects"}
"""Methods that every authenticated user may call."""
CHUNKED_BYTES = 2048  # Go's HTTP server sends responses of at least this size in chunks
NEED_VIEW = ("Get", "List", "Watch", "Tail", "CreateDownloadLink")
"""Prefixes of methods that only read. All other methods need the right to run."""


def is_change(method: str) -> bool:
    """Return whether a method changes something, so that a caller needs the right to run."""
    return method not in NEEDS_NO_RIGHT and not method.startswith(NEED_VIEW)


def authenticated_caller() -> Person:
    """Return the user who makes the current call, or raise UNAUTHENTICATED."""
    if (caller := CALLER.get()) is None:
        raise ConnectError(Code.UNAUTHENTICATED, "missing or unknown credentials")
    return caller


def require(item: Item | None, description: str) -> Item:
    """Return ``item``, or raise NOT_FOUND if it is None."""
    if item is None:
        raise ConnectError(Code.NOT_FOUND, f"there is no {description}")
    return item


def key_of(id_: Any) -> tuple[str, str, str]:
    """Return project, domain and name.

    The SDK sends an invented name of an organization, so this function omits the organization.
    """
    return id_.project, id_.domain, id_.name


def invalid(message: str) -> ConnectError:
    """Return the error for an invalid argument."""
    return ConnectError(Code.INVALID_ARGUMENT, message)


class Lockstep:
    """Holds the n-th call of each named caller until all named callers have made n calls."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._call_counts = dict.fromkeys(names, 0)
        self._changed = asyncio.Condition()

    async def wait(self, caller: Person | None) -> None:
        """Count a call of a named caller, and wait until the others have made as many calls."""
        counts = self._call_counts
        async with self._changed:
            if caller is None or caller.name not in counts:
                return
            number = counts[caller.name] = counts[caller.name] + 1
            self._changed.notify_all()
            try:
                async with asyncio.timeout(LOCKSTEP_SECONDS):
                    await self._changed.wait_for(lambda: all(n >= number for n in counts.values()))
            except TimeoutError:
                counts.clear()  # from now on, no caller waits

    async def leave(self, name: str) -> None:
        """Remove a caller after the last call, so that the other callers wait no longer."""
        async with self._changed:
            self._call_counts.pop(name, None)
            self._changed.notify_all()


class Faults:
    """Makes calls of a method fail or hang, for tests."""

    def __init__(self) -> None:
        self.lockstep = Lockstep()
        self._errors: dict[str, tuple[int, deque[ConnectError]]] = {}
        self._held: dict[str, tuple[int, asyncio.Event]] = {}

    def fail(self, method: str, error: ConnectError, times: int, after: int) -> None:
        """Make the next ``times`` calls raise ``error`` after they have sent ``after`` messages."""
        self._errors[method] = after, deque([error] * times)

    def hold(self, method: str, after: int) -> None:
        """Make calls of ``method`` hang. A stream first sends a number (``after``) of messages."""
        self._held[method] = after, asyncio.Event()

    def release(self, method: str) -> None:
        self._held.pop(method)[1].set()

    def clear(self) -> None:
        """Delete the errors. Calls hang until the ``with`` block of `LocalFlyte.hang` ends."""
        self._errors.clear()

    async def wait(self, method: str, message_count: int = 0) -> None:
        """Wait for `release` if calls of ``method`` hang after ``message_count`` messages."""
        after, released = self._held.get(method, (0, None))
        if released is not None and message_count >= after:
            await released.wait()

    def check(self, method: str, message_count: int = 0) -> None:
        """Raise the next injected error of ``method``, if enough messages have been sent."""
        after, errors = self._errors.get(method, (0, None))
        if errors and message_count >= after:
            raise errors.popleft()


@dataclass
class Access:
    """Connect interceptor that authorizes calls by the rules of a Flyte cluster."""

    _faults: Faults
    _mode: Mode

    async def intercept_unary(
        self,
        call_next: Callable[[Request, Context], Awaitable[Response]],
        request: Request,
        ctx: Context,
    ) -> Response:
        await self._authorize(request, ctx)
        response = await call_next(request, ctx)
        CALL.get().messages.append(response)
        return response

    async def intercept_server_stream(
        self,
        call_next: Callable[[Request, Context], AsyncGenerator[Response]],
        request: Request,
        ctx: Context,
    ) -> AsyncGenerator[Response]:
        await self._authorize(request, ctx)
        method, message_count = ctx.method().name, 0
        async with aclosing(call_next(request, ctx)) as responses:
            async for response in responses:
                await self._faults.wait(method, message_count)
                if message_count:
                    self._faults.check(method, message_count)
                CALL.get().messages.append(response)
                yield response
                message_count += 1
        await self._faults.wait(method, message_count)  # hang instead of ending

    async def _authorize(self, request: Any, ctx: Context) -> None:
        method = ctx.method().name
        CALL.get().messages.append(request)
        await self._faults.lockstep.wait(CALLER.get())
        await self._faults.wait(method)
        self._faults.check(method)
        if self._mode is not Mode.UNION:
            return
        caller = authenticated_caller()
        if caller.expired:
            raise ConnectError(Code.UNAUTHENTICATED, "the credentials are no longer valid")
        right = "run" if is_change(method) else "view"
        is_allowed = caller.can_run if right == "run" else caller.can_view
        if not is_allowed and method not in NEEDS_NO_RIGHT:
            message = f"{caller.name} may not {right} in this project"
            raise ConnectError(Code.PERMISSION_DENIED, message)


@dataclass(frozen=True)
class ReceivedCall:
    """A call that the server has received, even if it was not authorized."""

    method: str
    headers: Mapping[str, str] = field(repr=False)
    """Headers by lower-case name. ``repr`` omits the headers, because they contain credentials."""
    person: Person | None
    """The user with these credentials; None if the credentials are missing or invalid."""
    messages: deque[Any] = field(repr=False)
    """The request, and the responses sent so far. Empty outside `LocalFlyte.kept_messages`."""


@dataclass
class Gateway:
    """ASGI application that routes calls to the services of the local Flyte server."""

    _find: Callable[[Mapping[str, str]], Person | None]
    """Returns the user for the headers of a call."""
    _services: Mapping[str, ASGIApp]
    received: deque[ReceivedCall] = field(default_factory=lambda: deque(maxlen=MAX_RECEIVED))
    keep_messages: bool = False
    open_calls: Counter[str] = field(default_factory=Counter)
    """Number of open calls, by method (such as ``WatchActionDetails``) and by request id."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        received = Headers(scope=scope)
        headers = {name: ", ".join(received.getlist(name)) for name in received}
        caller = self._find(headers)
        service, _, method = scope["path"].lstrip("/").rpartition("/")
        messages = deque[Any](maxlen=None if self.keep_messages else 0)
        call = ReceivedCall(method, headers, caller, messages)
        self.received.append(call)
        CALLER.set(caller)
        CALL.set(call)
        if (application := self._services.get(f"/{service}")) is None:
            # The client of a streaming call ignores this body, and reads only the HTTP status.
            # Connect maps 404 to "unimplemented".
            message = f"{service}/{method} is not part of the local Flyte server"
            response = JSONResponse({"code": Code.UNIMPLEMENTED.value, "message": message}, 404)
            await response(scope, receive, send)
            return
        counters = method, headers.get("x-request-id", "")
        self.open_calls.update(counters)
        try:
            await _respond(application, scope, receive, _with_content_length(send))
        finally:
            self.open_calls.subtract(counters)


def _with_content_length(send: Send) -> Send:
    """Add Content-Length to a small response in one part, as Go's HTTP server does."""
    start: Message | None = None

    async def send_with_length(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start":
            start = message
            return
        if start:
            length = len(message["body"])
            if not message["more_body"] and length < CHUNKED_BYTES:
                start["headers"].append((b"content-length", b"%d" % length))
            await send(start)
            start = None
        await send(message)

    return send_with_length


async def _respond(application: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Run ``application`` for one call, and cancel the call when the client disconnects.

    Without this function, the Connect server would not notice a disconnect before it sends the
    next message.
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
        # Ignore errors, because streams convert the cancellation into another error.
        await asyncio.gather(serving, return_exceptions=True)

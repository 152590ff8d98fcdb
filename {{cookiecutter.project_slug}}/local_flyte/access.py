"""Access control of the local Flyte, and calls that fail on purpose.

A Connect interceptor in front of every service. It lists the right that each method needs, so the
services need no checks. Rights depend on a person's role, never on who started a run.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any, TypeVar

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.request import RequestContext

from .people import Mode, Person

Request = TypeVar("Request")
Response = TypeVar("Response")
Item = TypeVar("Item")
Context = RequestContext[Any, Any]
"""What a service gets besides the request; few need it."""

CALLER: ContextVar[Person | None] = ContextVar("caller")
"""The caller of the current call; None if it is unknown."""

NEEDS_NO_RIGHT = {"UserInfo", "SelectCluster", "ListProjects"}
"""Every known caller may call these."""

CREDENTIALS = {"authorization", "cookie"}
"""Without these headers, the SDK calls again with a token after it was refused."""

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
            _, released = self._held.pop(method)
            released.set()

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


class Access:
    """Connect interceptor that admits or refuses calls as a Flyte cluster would."""

    def __init__(self, faults: Faults, mode: Mode) -> None:
        self._faults = faults
        self._mode = mode

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
        if self._mode is Mode.OPEN_SOURCE and not CREDENTIALS & {*ctx.request_headers()}:
            raise ConnectError(Code.UNAUTHENTICATED, "the proxy in front admits no anonymous calls")
        if self._mode is not Mode.UNION:
            return
        someone = known_caller()
        if someone.expired:
            raise ConnectError(Code.UNAUTHENTICATED, "the credentials are no longer valid")
        right = "view" if method.startswith(NEED_VIEW) else "run"
        may = someone.can_run if right == "run" else someone.can_view
        if not may and method not in NEEDS_NO_RIGHT:
            raise ConnectError(
                Code.PERMISSION_DENIED, f"{someone.name} may not {right} in this project"
            )

"""The door of the local Flyte: who calls, may they, and does the call go wrong on purpose.

A Connect interceptor in front of every service. Which right a method needs is written down here,
once, so that the services hold no checks but those on the ownership of a run.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any, TypeVar

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.request import RequestContext

from .people import Person

Request = TypeVar("Request")
Response = TypeVar("Response")

_caller: ContextVar[Person | None] = ContextVar("caller")

NEEDS_NO_RIGHT = {"UserInfo", "SelectCluster", "ListProjects"}
"""Anyone who is someone may call these."""

NEEDS_RUN = {
    *("CreateRun", "AbortRun", "AbortAction", "EnqueueAction", "AbortQueuedAction"),
    *("UploadInputs", "CreateUploadLocation", "DeployTask", "Create", "Update", "Delete"),
}
"""These change something. Every other method needs the right to view."""


def caller() -> Person:
    """Return who makes the call that is being answered."""
    someone = _caller.get()
    if someone is None:
        raise ConnectError(Code.UNAUTHENTICATED, "missing or unknown credentials")
    return someone


def set_caller(someone: Person | None) -> None:
    """Say who makes the call that is about to be answered in the current context."""
    _caller.set(someone)


class Faults:
    """Calls that shall go wrong, by method name."""

    def __init__(self) -> None:
        self._codes: dict[str, Code] = {}
        self._remaining: Counter[str] = Counter()
        self._held: dict[str, asyncio.Event] = {}

    def fail(self, method: str, code: Code, times: int) -> None:
        """Answer the next ``times`` calls of ``method`` with ``code``."""
        self._codes[method] = code
        self._remaining[method] = times

    def hold(self, method: str) -> None:
        """Leave calls of ``method`` unanswered until it is released."""
        self._held.setdefault(method, asyncio.Event())

    def release(self, *methods: str) -> None:
        """Let go of the calls of ``methods``, or of every method when none is named."""
        for method in methods or tuple(self._held):
            if (event := self._held.pop(method, None)) is not None:
                event.set()

    async def strike(self, method: str) -> None:
        """Fail or wait, if that is what the next call of ``method`` shall do."""
        if (event := self._held.get(method)) is not None:
            await event.wait()
        if self._remaining[method] > 0:
            self._remaining[method] -= 1
            raise ConnectError(self._codes[method], f"{method} fails on request of a test")


class Access:
    """Connect interceptor that admits a call or refuses it as a Flyte cluster would."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    async def intercept_unary(
        self,
        call_next: Callable[[Request, RequestContext[Any, Any]], Awaitable[Response]],
        request: Request,
        ctx: RequestContext[Any, Any],
    ) -> Response:
        """Admit a call with one answer."""
        await self._admit(ctx)
        try:
            return await call_next(request, ctx)
        except ConnectError as error:
            raise _named(error, ctx) from error

    async def intercept_server_stream(
        self,
        call_next: Callable[[Request, RequestContext[Any, Any]], AsyncIterator[Response]],
        request: Request,
        ctx: RequestContext[Any, Any],
    ) -> AsyncIterator[Response]:
        """Admit a call that is answered by a stream."""
        await self._admit(ctx)
        try:
            async for response in call_next(request, ctx):
                yield response
        except ConnectError as error:
            raise _named(error, ctx) from error

    async def _admit(self, ctx: RequestContext[Any, Any]) -> None:
        method = ctx.method().name
        await self._faults.strike(method)
        someone = caller()
        if someone.expired:
            raise ConnectError(Code.UNAUTHENTICATED, "the credentials are no longer valid")
        if method in NEEDS_NO_RIGHT:
            return
        right = "run" if method in NEEDS_RUN else "view"
        if not (someone.can_run if right == "run" else someone.can_view):
            raise ConnectError(
                Code.PERMISSION_DENIED, f"{someone.name} may not {right} in this project"
            )


def unimplemented(service: str, method: str) -> ConnectError:
    """Return the error for a method that the local Flyte does not know."""
    return ConnectError(Code.UNIMPLEMENTED, f"{service}/{method} is not part of the local Flyte")


def _named(error: ConnectError, ctx: RequestContext[Any, Any]) -> ConnectError:
    # The stubs answer what a service leaves out with UNIMPLEMENTED, but without the method's name.
    if error.code is Code.UNIMPLEMENTED:
        return unimplemented(ctx.method().service_name, ctx.method().name)
    return error

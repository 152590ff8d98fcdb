"""The door of the local Flyte: who calls, may they, and does the call go wrong on purpose.

A Connect interceptor in front of every service. Which right a method needs is written down here,
once, so that the services hold no checks. Rights are by role, never by who started a run.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

import protovalidate
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.request import RequestContext

from .modes import Mode
from .people import Directory, Person

Request = TypeVar("Request")
Response = TypeVar("Response")

_caller: ContextVar[Person | None] = ContextVar("caller")

NEEDS_NO_RIGHT = {"UserInfo", "SelectCluster", "ListProjects"}
"""Anyone who is someone may call these."""

MAY_BE_EMPTY = ("org", "organization", "content_md5")
"""Fields that must have a value by their rules, while Flyte takes requests without."""

NEEDS_RUN = {
    *("CreateRun", "AbortRun", "AbortAction", "EnqueueAction", "AbortQueuedAction"),
    *("UploadInputs", "CreateUploadLocation", "DeployTask", "Create", "Update", "Delete"),
    *("DeployTrigger", "UpdateTriggers", "DeleteTriggers"),
}
"""These change something. Every other method needs the right to view."""


def caller() -> Person | None:
    """Return who makes the call that is being answered; None for someone unknown."""
    return _caller.get()


def known_caller() -> Person:
    """Return who makes the call that is being answered, or raise UNAUTHENTICATED."""
    if (someone := _caller.get()) is None:
        raise ConnectError(Code.UNAUTHENTICATED, "missing or unknown credentials")
    return someone


def set_caller(someone: Person | None) -> None:
    """Say who makes the call that is about to be answered in the current context."""
    _caller.set(someone)


@dataclass
class _Hold:
    after: int
    released: asyncio.Event = field(default_factory=asyncio.Event)


class Faults:
    """Calls that shall go wrong, by method name."""

    def __init__(self) -> None:
        self._errors: dict[str, deque[ConnectError]] = {}
        self._held: dict[str, _Hold] = {}

    def fail(self, method: str, error: ConnectError, times: int) -> None:
        """Answer the next ``times`` calls of ``method`` with ``error``."""
        self._errors[method] = deque([error] * times)

    def hold(self, method: str, after: int) -> None:
        """Leave calls of ``method`` without an answer, or without any after the first ``after``."""
        self._held[method] = _Hold(after)

    def release(self, *methods: str) -> None:
        """Let go of the calls of ``methods``, or of every method when none is named."""
        for method in methods or tuple(self._held):
            if (hold := self._held.pop(method, None)) is not None:
                hold.released.set()

    def clear(self) -> None:
        """Let everything go right again."""
        self._errors.clear()
        self.release()

    async def wait(self, method: str, sent: int = 0) -> None:
        """Wait, if calls of ``method`` hang once they have sent this number of answers."""
        hold = self._held.get(method)
        if hold is not None and sent >= hold.after:
            await hold.released.wait()

    def check(self, method: str) -> None:
        """Fail, if that is what the next call of ``method`` shall do."""
        if errors := self._errors.get(method):
            raise errors.popleft()


class Access:
    """Connect interceptor that admits a call or refuses it as a Flyte cluster would."""

    def __init__(self, faults: Faults, mode: Mode, proxy: Directory | None) -> None:
        """Prepare.

        Args:
            faults: Calls that shall go wrong.
            mode: Which Flyte it is like.
            proxy: Whom the proxy in front lets in; None if there is no proxy.
        """
        self._faults = faults
        self._mode = mode
        self._proxy = proxy

    async def intercept_unary(
        self,
        call_next: Callable[[Request, RequestContext[Any, Any]], Awaitable[Response]],
        request: Request,
        ctx: RequestContext[Any, Any],
    ) -> Response:
        """Admit a call with one answer."""
        await self._admit(request, ctx)
        try:
            return await call_next(request, ctx)
        except ConnectError as error:
            raise _named(error, ctx) from error

    async def intercept_server_stream(
        self,
        call_next: Callable[[Request, RequestContext[Any, Any]], AsyncGenerator[Response]],
        request: Request,
        ctx: RequestContext[Any, Any],
    ) -> AsyncGenerator[Response]:
        """Admit a call that is answered by a stream."""
        await self._admit(request, ctx)
        method, sent = ctx.method().name, 0
        try:
            async with aclosing(call_next(request, ctx)) as responses:
                async for response in responses:
                    await self._faults.wait(method, sent)
                    yield response
                    sent += 1
            await self._faults.wait(method, sent)  # nor is the end told
        except ConnectError as error:
            raise _named(error, ctx) from error

    async def _admit(self, request: Any, ctx: RequestContext[Any, Any]) -> None:
        method = ctx.method().name
        await self._faults.wait(method)
        self._faults.check(method)
        if self._proxy is not None and not self._proxy.lets_in(ctx.request_headers()):
            raise ConnectError(Code.UNAUTHENTICATED, "the proxy knows no such credentials")
        if self._mode is not Mode.UNION:
            return
        someone = known_caller()
        if someone.expired:
            raise ConnectError(Code.UNAUTHENTICATED, "the credentials are no longer valid")
        right = "run" if method in NEEDS_RUN else "view"
        may = someone.can_run if right == "run" else someone.can_view
        if not may and method not in NEEDS_NO_RIGHT:
            raise ConnectError(
                Code.PERMISSION_DENIED, f"{someone.name} may not {right} in this project"
            )
        _check(request)


def _check(request: Any) -> None:
    """Hold a request against the rules in its definition, which the open-source Flyte does not.

    Raises:
        ConnectError: INVALID_ARGUMENT, naming the fields that break one.
    """
    broken = [
        f"{name}: {violation.proto.message}"
        for violation in protovalidate.collect_violations(request)
        if not (name := _field_name(violation)).endswith(MAY_BE_EMPTY) or violation.field_value
    ]
    if broken:
        raise ConnectError(Code.INVALID_ARGUMENT, "; ".join(broken))


def _field_name(violation: protovalidate.Violation) -> str:
    field = violation.proto.field
    return ".".join(element.field_name for element in field.elements) if field else ""


def unimplemented(service: str, method: str) -> ConnectError:
    """Return the error for a method that the local Flyte does not know."""
    return ConnectError(Code.UNIMPLEMENTED, f"{service}/{method} is not part of the local Flyte")


def _named(error: ConnectError, ctx: RequestContext[Any, Any]) -> ConnectError:
    # The stubs answer what a service leaves out without naming the method.
    if error.code is Code.UNIMPLEMENTED and error.message == "Not implemented":
        return unimplemented(ctx.method().service_name, ctx.method().name)
    return error

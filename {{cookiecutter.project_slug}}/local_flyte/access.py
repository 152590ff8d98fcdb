"""Access control of the local Flyte, and calls that fail on purpose.

A Connect interceptor in front of every service. It lists the right that each method needs, so the
services need no checks. Rights depend on a person's role, never on who started a run.
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
"""Every known caller may call these."""

MAY_BE_EMPTY = ("org", "organization", "content_md5")
"""Fields that are required by their rules, although Flyte accepts requests without them."""

NEEDS_RUN = {
    *("CreateRun", "AbortRun", "AbortAction", "EnqueueAction", "AbortQueuedAction"),
    *("UploadInputs", "CreateUploadLocation", "DeployTask", "Create", "Update", "Delete"),
    *("DeployTrigger", "UpdateTriggers", "DeleteTriggers"),
}
"""Methods that change something. Every other method needs the right to view."""


def caller() -> Person | None:
    """Return the caller of the current call; None if it is unknown."""
    return _caller.get()


def known_caller() -> Person:
    """Return the caller of the current call, or raise UNAUTHENTICATED if it is unknown."""
    if (someone := _caller.get()) is None:
        raise ConnectError(Code.UNAUTHENTICATED, "missing or unknown credentials")
    return someone


def set_caller(someone: Person | None) -> None:
    """Set the caller for the call that will be answered in the current context."""
    _caller.set(someone)


@dataclass
class _Hold:
    after: int
    released: asyncio.Event = field(default_factory=asyncio.Event)


class Faults:
    """Calls that fail or hang on purpose, by method name."""

    def __init__(self) -> None:
        self._errors: dict[str, deque[ConnectError]] = {}
        self._held: dict[str, _Hold] = {}

    def fail(self, method: str, error: ConnectError, times: int) -> None:
        """Make the next ``times`` calls of ``method`` fail with ``error``."""
        self._errors[method] = deque([error] * times)

    def hold(self, method: str, after: int) -> None:
        """Make calls of ``method`` hang, after they have sent ``after`` messages."""
        self._held[method] = _Hold(after)

    def release(self, *methods: str) -> None:
        """Release the hanging calls of ``methods``, or of all methods if none is given."""
        for method in methods or tuple(self._held):
            if (hold := self._held.pop(method, None)) is not None:
                hold.released.set()

    def clear(self) -> None:
        """Remove all faults."""
        self._errors.clear()
        self.release()

    async def wait(self, method: str, sent: int = 0) -> None:
        """Wait, if calls of ``method`` hang after this number of messages."""
        hold = self._held.get(method)
        if hold is not None and sent >= hold.after:
            await hold.released.wait()

    def check(self, method: str) -> None:
        """Raise the error for the next call of ``method``, if there is one."""
        if errors := self._errors.get(method):
            raise errors.popleft()


class Access:
    """Connect interceptor that admits or refuses calls as a Flyte cluster would."""

    def __init__(self, faults: Faults, mode: Mode, proxy: Directory | None) -> None:
        """Prepare.

        Args:
            faults: Calls that fail on purpose.
            mode: The kind of Flyte.
            proxy: The people that the proxy in front admits; None if there is no proxy.
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
        """Admit a call with a single answer."""
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
        """Admit a call that returns a stream."""
        await self._admit(request, ctx)
        method, sent = ctx.method().name, 0
        try:
            async with aclosing(call_next(request, ctx)) as responses:
                async for response in responses:
                    await self._faults.wait(method, sent)
                    yield response
                    sent += 1
            await self._faults.wait(method, sent)  # the stream does not end, either
        except ConnectError as error:
            raise _named(error, ctx) from error

    async def _admit(self, request: Any, ctx: RequestContext[Any, Any]) -> None:
        method = ctx.method().name
        await self._faults.wait(method)
        self._faults.check(method)
        if self._proxy is not None and not self._proxy.lets_in(ctx.request_headers()):
            raise ConnectError(Code.UNAUTHENTICATED, "the proxy does not accept these credentials")
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
    """Check a request against the rules in its definition, unlike the open-source Flyte.

    Raises:
        ConnectError: INVALID_ARGUMENT, with the fields that break a rule.
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
    """Return the error for a method that the local Flyte does not have."""
    return ConnectError(Code.UNIMPLEMENTED, f"{service}/{method} is not part of the local Flyte")


def _named(error: ConnectError, ctx: RequestContext[Any, Any]) -> ConnectError:
    # For methods that a service leaves out, the stubs' error does not name the method.
    if error.code is Code.UNIMPLEMENTED and error.message == "Not implemented":
        return unimplemented(ctx.method().service_name, ctx.method().name)
    return error

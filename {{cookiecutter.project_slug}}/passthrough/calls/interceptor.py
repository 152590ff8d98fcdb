"""Makes each call to Flyte as the request's caller."""

import dataclasses
import time
from asyncio import create_task
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing, suppress
from functools import partial
from typing import Any

from connectrpc.request import RequestContext
from flyteidl2.common.list_pb2 import Filter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .redaction import with_safe_errors
from .request_state import this_request
from .sdk import MessageTooLargeError, callers_credentials

Context = RequestContext[Any, Any]


class CallerInterceptor:
    """Makes each call once, as the caller, and ends it with the request.

    Replaces the SDK's own interceptors: they repeat refused calls, calls that may have taken
    effect, and streams that have already delivered something.
    """

    _propagator = TraceContextTextMapPropagator()

    def __init__(self, is_plaintext: bool) -> None:
        self._is_plaintext = is_plaintext

    async def intercept_unary(
        self, call_next: Callable[[Any, Context], Awaitable[Any]], request: Any, ctx: Context
    ) -> Any:
        """Make a call with a single answer."""
        state, name, began = this_request(), ctx.method().name, time.perf_counter()
        method = self._begin(ctx)

        def ask() -> Awaitable[Any]:
            return with_safe_errors(call_next(request, ctx), method)

        is_list, output = name.startswith("List"), ctx.method().output
        if name in {"ListRuns", "ListActions"}:
            _correct(request.request.filters)
        try:
            with state.calls.cancel_task_at_end():
                if name == "CreateRun":
                    state.deadline.extend()
                answer = await (_in_parts(ask, request, output) if is_list else ask())
        finally:
            state.calls.seconds += time.perf_counter() - began
        if name == "CreateRun":
            state.run = answer.run.action.id.run.name
        return answer

    async def intercept_server_stream(
        self, call_next: Callable[[Any, Context], AsyncGenerator[Any]], request: Any, ctx: Context
    ) -> AsyncGenerator[Any]:
        """Make a call that returns a stream."""
        state, method = this_request(), self._begin(ctx)
        stream = call_next(request, _with_handovers(ctx))

        async def close() -> None:
            with suppress(RuntimeError):  # it is being read: the reader is cancelled
                await stream.aclose()

        async with aclosing(stream):
            with state.calls.call_at_end(
                lambda: create_task(close())
            ):  # also while nobody reads it
                while True:
                    with state.calls.cancel_task_at_end():
                        given = await with_safe_errors(anext(stream, None), method)
                    if given is None:
                        return
                    yield given.message.pop()
                    if method.endswith("/TailLogs"):  # empty: the SDK keeps the last message
                        yield ctx.method().output()

    def _begin(self, ctx: Context) -> str:
        """Make a call the caller's. Returns its method, as ``service/method``.

        Flyte gets the ``traceparent`` header, which holds only random numbers, and no baggage,
        which clients write.
        """
        state, headers, service = this_request(), ctx.request_headers(), ctx.method().service_name
        headers["x-request-id"] = state.request_id or "start"
        # Where to sign in is asked without credentials.
        if not (self._is_plaintext or service == "flyteidl2.auth.AuthMetadataService"):
            for credential, value in callers_credentials():
                headers[credential] = value
        self._propagator.inject(headers)
        return f"{service}/{ctx.method().name}"


class _Handover:
    """Stands for a message of a stream: the Connect client keeps it until the next has come.

    It is emptied when the message is handed on: a stream that is silent keeps nothing in memory.
    """

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self.message: list[Any] = []

    def ParseFromString(self, data: bytearray) -> None:  # noqa: N802 - as messages call it
        self.message.append(self._kind.FromString(data))
        data.clear()  # the client keeps this, too


def _with_handovers(ctx: Context) -> Context:
    output: Any = partial(_Handover, ctx.method().output)
    return RequestContext(
        method=dataclasses.replace(ctx.method(), output=output),
        http_method=ctx.http_method(),
        request_headers=ctx.request_headers(),
    )


async def _in_parts(ask: Callable[[], Awaitable[Any]], request: Any, answer: type) -> Any:
    """Ask for a page of a list, or for less of it if it is too large. The SDK asks for the rest.

    What one person has stored must not hide a list from everybody: an entry that is too large alone
    is left out, and counted for the response's header ``X-Omitted-Count``.
    """
    page = getattr(request, "request", request)
    while True:
        try:
            return await ask()
        except MessageTooLargeError:
            if page.limit > 1:
                page.limit //= 2
                continue
            if page.token.strip("0123456789"):
                raise  # the token does not tell where the entry after this one is
            this_request().omitted_count += 1
            rest = answer()
            getattr(rest, "projects", rest).token = str(int(page.token or 0) + 1)
            return rest


def _correct(filters: Iterable[Filter]) -> None:
    """Correct filters in place: Flyte refuses them as the SDK writes them.

    Delete this once the SDK has fixed findings 24 and 26 in the template's docs/sdk-findings.md.
    """
    for condition in filters:
        if condition.field == "created_by":
            condition.field = "created_by_subject"
        if condition.field == "phase" and condition.function == Filter.EQUAL:
            condition.values[:] = ["".join(condition.values)]  # "10" is sent as ["1", "0"]

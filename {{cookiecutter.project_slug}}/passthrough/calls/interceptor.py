"""Makes each call to Flyte with the credentials of the caller."""

import dataclasses
import time
from asyncio import create_task
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing, suppress
from functools import partial
from typing import Any

from connectrpc.request import RequestContext
from flyteidl2.common.list_pb2 import Filter
from flyteidl2.core.interface_pb2 import TypedInterface
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .redaction import with_safe_errors
from .request_state import this_request
from .sdk import MessageTooLargeError, callers_credentials

Context = RequestContext[Any, Any]

# The SDK creates objects for each input and output in the event loop, and has no limit.
MAX_INPUTS = 2_000  # maximum number of inputs, and of outputs, of a task
MAX_OMITTED = 100  # maximum number of entries of lists that a request may omit


class CallerInterceptor:
    """Makes each call once, as the caller, and ends the call when the request ends.

    This interceptor replaces the interceptors of the SDK, which repeat every failed call. They
    repeat a call even in three cases: Flyte has refused the credentials, the call may have had an
    effect, or a stream has already returned messages.
    """

    _propagator = TraceContextTextMapPropagator()

    def __init__(self, is_plaintext: bool) -> None:
        self._is_plaintext = is_plaintext

    async def intercept_unary(
        self, call_next: Callable[[Any, Context], Awaitable[Any]], request: Any, ctx: Context
    ) -> Any:
        """Make a unary call."""
        state, name, began = this_request(), ctx.method().name, time.perf_counter()
        method, output = self._begin(ctx), ctx.method().output

        def send() -> Awaitable[Any]:
            return with_safe_errors(call_next(request, ctx), method)

        if name in {"ListRuns", "ListActions"}:
            _correct_filters(request.request.filters)
        try:
            with state.calls.cancel_task_at_end():
                if name == "CreateRun":
                    state.deadline.extend()
                is_list = name.startswith("List")
                response = await (_fetch_page(send, request, output) if is_list else send())
        finally:
            state.calls.seconds += time.perf_counter() - began
        if name == "GetTaskDetails":
            _refuse_many_inputs(response.details.spec.task_template.interface)
        if name == "CreateRun":
            state.run = response.run.action.id.run.name
        return response

    async def intercept_server_stream(
        self, call_next: Callable[[Any, Context], AsyncGenerator[Any]], request: Any, ctx: Context
    ) -> AsyncGenerator[Any]:
        """Make a server-streaming call."""
        state, method = this_request(), self._begin(ctx)
        stream = call_next(request, _with_handovers(ctx))

        async def close() -> None:
            with suppress(RuntimeError):  # raised if a task is reading; `OpenCalls.end` cancels it
                await stream.aclose()

        async with aclosing(stream):
            # Between two messages, no task is waiting, so there is no task to cancel. Therefore
            # close the stream when the request ends.
            with state.calls.call_at_end(lambda: create_task(close())):
                while True:
                    with state.calls.cancel_task_at_end():
                        handover = await with_safe_errors(anext(stream, None), method)
                    if handover is None:
                        return
                    yield handover.message.pop()
                    if method.endswith("/TailLogs"):
                        # The SDK keeps a message in memory until the next message arrives. Yield an
                        # empty message, so that the SDK frees the large one.
                        yield ctx.method().output()

    def _begin(self, ctx: Context) -> str:
        """Add headers, such as credentials, to a call. Return the method as ``service/method``.

        The app sends the header ``traceparent`` to Flyte, because the header contains only random
        numbers. The app does not send the header ``baggage``, because clients choose its content.
        """
        headers, service = ctx.request_headers(), ctx.method().service_name
        headers["x-request-id"] = this_request().request_id or "start"  # outside of a request
        # Metadata for sign-in is public, and agents fetch it before they have credentials.
        if not (self._is_plaintext or service == "flyteidl2.auth.AuthMetadataService"):
            for credential, value in callers_credentials():
                headers[credential] = value
        self._propagator.inject(headers)
        return f"{service}/{ctx.method().name}"


class _Handover:
    """Holds one message of a stream until the app takes the message.

    The Connect client creates an instance of this class instead of a protobuf message, and keeps it
    until the next message arrives. The instance is empty after the app has taken the message, so a
    waiting stream keeps no message in memory.
    """

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self.message: list[Any] = []

    def ParseFromString(self, data: bytearray) -> None:  # noqa: N802 - the name in protobuf
        self.message.append(self._kind.FromString(data))
        data.clear()  # the client also keeps the encoded message


def _with_handovers(ctx: Context) -> Context:
    output: Any = partial(_Handover, ctx.method().output)
    return RequestContext(
        method=dataclasses.replace(ctx.method(), output=output),
        http_method=ctx.http_method(),
        request_headers=ctx.request_headers(),
    )


async def _fetch_page(send: Callable[[], Awaitable[Any]], request: Any, output: type) -> Any:
    """Fetch a page of a list. If the page is too large, fetch a smaller page.

    The SDK then fetches the remaining entries as further pages. After a page that was too large,
    the next page has at most as many entries as the page that was small enough. Each later page may
    have twice as many entries as the page before.

    If a single entry is too large, omit the entry and count it for the header ``X-Omitted-Count``.
    Otherwise a large entry of one user would make the list fail for all users. Each omitted entry
    costs a call to Flyte, so the list fails after `MAX_OMITTED` entries.
    """
    state, page = this_request(), getattr(request, "request", request)
    page.limit = min(page.limit, state.max_page_entries)
    state.max_page_entries *= 2
    while True:
        try:
            return await send()
        except MessageTooLargeError:
            state.max_page_entries = max(page.limit // 2, 1)
            if page.limit > 1:
                page.limit //= 2
                continue
            if page.token.strip("0123456789"):
                raise  # if the token is not a number, the app does not know the next token
            if state.omitted_count == MAX_OMITTED:
                raise
            state.omitted_count += 1
            empty = output()
            getattr(empty, "projects", empty).token = str(int(page.token or 0) + 1)
            return empty


def _refuse_many_inputs(interface: TypedInterface) -> None:
    """Raise a MessageTooLargeError if a task has more than `MAX_INPUTS` inputs or outputs."""
    if max(len(interface.inputs.variables), len(interface.outputs.variables)) > MAX_INPUTS:
        raise MessageTooLargeError(
            f"the task has more than {MAX_INPUTS:,} inputs or outputs: change the task to take or"
            " return one dataclass, map or list"
        )


def _correct_filters(filters: Iterable[Filter]) -> None:
    """Change the SDK's filters in place, because Flyte would refuse the original filters.

    Delete this function when the SDK has fixed findings 24 and 26 in docs/tables/sdk_findings.toml
    of the template.
    """
    for condition in filters:
        if condition.field == "created_by":
            condition.field = "created_by_subject"
        if condition.field == "phase" and condition.function == Filter.EQUAL:
            condition.values[:] = ["".join(condition.values)]  # the SDK splits "10" into "1", "0"

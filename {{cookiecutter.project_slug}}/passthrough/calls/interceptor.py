"""Makes each call to Flyte as the request's caller."""

import asyncio
import math
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from connectrpc.request import RequestContext
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .caller import callers_credentials
from .errors import DeadlineExceededError
from .large_lists import correct_filters, list_in_parts
from .redaction import with_safe_errors
from .request_calls import request_calls

Context = RequestContext[Any, Any]


class CallerInterceptor:
    """Makes each call as the caller, with a deadline, and ends it with the request.

    Replaces the SDK's own interceptors, which also retry calls that may have taken effect, or were
    refused, and streams that have already delivered something.
    """

    acts_as_the_caller = True
    _propagator = TraceContextTextMapPropagator()

    def __init__(self, is_plaintext: bool) -> None:
        self._is_plaintext = is_plaintext

    async def intercept_unary(
        self, call_next: Callable[[Any, Context], Awaitable[Any]], request: Any, ctx: Context
    ) -> Any:
        """Make a call with a single answer, once."""
        calls, name, began = request_calls(), ctx.method().name, time.perf_counter()
        method = self._begin(ctx)

        def ask() -> Awaitable[Any]:
            return with_safe_errors(call_next(request, ctx), method)

        is_list, output = name.startswith("List"), ctx.method().output
        if name in {"ListRuns", "ListActions"}:
            correct_filters(request.request.filters)
        try:
            with calls.include():
                if name == "CreateRun":
                    calls.deadline.extend()
                async with asyncio.timeout(calls.deadline.timeout):
                    answer = await (list_in_parts(ask, request, output) if is_list else ask())
        except TimeoutError:
            raise DeadlineExceededError(method) from None
        finally:
            calls.seconds += time.perf_counter() - began
        if name == "CreateRun":
            calls.run = answer.run.action.id.run.name
        return answer

    async def intercept_server_stream(
        self, call_next: Callable[[Any, Context], AsyncGenerator[Any]], request: Any, ctx: Context
    ) -> AsyncGenerator[Any]:
        """Make a call that returns a stream. A watch sends the state at once, or Flyte hangs."""
        calls, method = request_calls(), self._begin(ctx)
        seconds = calls.deadline.timeout if ctx.method().name.startswith("Watch") else math.inf
        async with calls.closing(call_next(request, ctx)) as stream:
            while True:
                # The request's deadline cancels tasks, but no thread: its call ends a second later.
                left = min(seconds, calls.deadline.seconds_left() + 1.0)
                try:
                    async with asyncio.timeout(left if left < math.inf else None):
                        with calls.include():
                            message = await with_safe_errors(anext(stream, None), method)
                except TimeoutError:
                    raise DeadlineExceededError(method) from None
                if message is None:
                    return
                yield message
                del message  # or it would be in memory until the next one comes
                seconds = math.inf

    def _begin(self, ctx: Context) -> str:
        """Make a call the caller's. Returns its method, as ``service/method``.

        Flyte gets the ``traceparent`` header, which holds only random numbers, so that its own
        spans can join the trace. Baggage is not sent on: clients write it.
        """
        calls, headers, service = request_calls(), ctx.request_headers(), ctx.method().service_name
        calls.received.release()
        headers["x-request-id"] = calls.request_id or str(uuid.uuid4())
        # Where to sign in is asked without credentials.
        if not (self._is_plaintext or service == "flyteidl2.auth.AuthMetadataService"):
            headers.update(callers_credentials())
        self._propagator.inject(headers)
        return f"{service}/{ctx.method().name}"

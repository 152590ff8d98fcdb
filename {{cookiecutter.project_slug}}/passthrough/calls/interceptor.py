"""Makes each call to Flyte as the request's caller."""

import asyncio
import re
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, aclosing, contextmanager, nullcontext
from typing import Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.request import RequestContext
from flyte import remote
from flyteidl2.common.list_pb2 import Filter
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .caller import forwarded_credentials
from .errors import DeadlineExceededError, Secrets, safe_error, secrets_in
from .request_calls import request_calls
from .transport import HttpClient

Context = RequestContext[Any, Any]

RENEWAL = 4
"""A watch that is silent for this many times the timeout is ended; those who watch begin anew."""

PAUSES = (0.25, 0.5, 1.0)
"""Seconds before each retry of a call that only reads, while Flyte cannot be reached."""


class CallerInterceptor:
    """Makes each call as the caller, with a deadline, and ends it with the request.

    Replaces the SDK's own interceptors, which retry calls that were refused, and streams that have
    already delivered something.
    """

    acts_as_the_caller = True
    _tracer = trace.get_tracer("passthrough")  # uses the provider that is set when a span starts
    _propagator = TraceContextTextMapPropagator()

    def __init__(self, is_plaintext: bool, client: HttpClient) -> None:
        self._is_plaintext, self._client = is_plaintext, client

    async def intercept_unary(
        self, call_next: Callable[[Any, Context], Awaitable[Any]], request: Any, ctx: Context
    ) -> Any:
        """Make a call with a single answer; retry one that only reads if Flyte is unreachable."""
        calls, name, began = request_calls(), ctx.method().name, time.perf_counter()
        if name in {"ListRuns", "ListActions"}:
            _correct(request.request.filters)
        pauses = PAUSES if re.match(r"Get|List|Select|User", name) else ()
        with self._call(ctx) as (method, secrets):
            if name == "CreateRun":
                await calls.deadline.extend()
            try:
                async with asyncio.timeout(calls.timeout):
                    for pause in (*pauses, None):
                        try:
                            return await call_next(request, ctx)
                        except ConnectError as error:
                            # Here, not after the block: safe_error raises a CancelledError again,
                            # and only asyncio.timeout can turn its own into a TimeoutError.
                            failure = safe_error(error, secrets, method)
                        if pause is None or failure.code is not Code.UNAVAILABLE:
                            break
                        await asyncio.sleep(pause)
            except TimeoutError:
                self._client.forget_connections(began)
                raise DeadlineExceededError(method) from None
            finally:
                calls.seconds += time.perf_counter() - began
            raise failure

    async def intercept_server_stream(
        self, call_next: Callable[[Any, Context], AsyncGenerator[Any]], request: Any, ctx: Context
    ) -> AsyncGenerator[Any]:
        """Make a call that returns a stream, and end it when nothing more will come.

        It is read in a separate task, because this generator may stay at its ``yield`` as long as
        something refers to it, and because waiting for a message must not end the stream.
        """
        messages = asyncio.Queue[Any]()

        async def read() -> None:
            with self._call(ctx) as (method, secrets):
                try:
                    async with aclosing(call_next(request, ctx)) as stream:
                        async for message in stream:
                            messages.put_nowait(message)
                            await messages.join()  # until it has been taken
                except ConnectError as error:
                    failure = safe_error(error, secrets, method)
                else:
                    return
                raise failure

        def done(task: asyncio.Task[None]) -> None:
            messages.put_nowait(None)
            if not task.cancelled():
                task.exception()  # or asyncio warns, if nobody is left to await it

        is_first, silent, reading = True, 0, asyncio.create_task(read())
        reading.add_done_callback(done)
        try:
            while True:
                try:
                    async with asyncio.timeout(request_calls().timeout):
                        message = await messages.get()
                except TimeoutError:
                    silent += 1
                    ends = await _has_nothing_more(request, ctx.method().name, is_first, silent)
                    if ends and messages.empty():
                        return
                    continue
                if message is None:
                    break
                is_first, silent = False, 0
                messages.task_done()
                yield message
            await reading
        finally:
            reading.cancel()
            await asyncio.wait({reading})

    @contextmanager
    def _call(self, ctx: Context) -> Iterator[tuple[str, Secrets]]:
        """Make the block a call of the request, with a span.

        Yields its method, as ``service/method``, and the secrets that are sent.

        Flyte gets the ``traceparent`` header, which holds only random numbers, so that its own
        spans can join the trace. Baggage is not sent on: clients write it.
        """
        secrets = self._authenticate(ctx)
        method = f"{ctx.method().service_name}/{ctx.method().name}"
        with request_calls().include(), self._span(method) as current:
            self._propagator.inject(ctx.request_headers())
            try:
                yield method, secrets
            except Exception as error:
                current.set_attribute("error.type", type(error).__qualname__)
                if isinstance(error, ConnectError):
                    current.set_attribute("rpc.response.status_code", error.code.value)
                current.set_status(trace.StatusCode.ERROR)
                raise

    def _span(self, method: str) -> AbstractContextManager[trace.Span]:
        """Start a span for a call, if the request has one that is exported."""
        if not (current := trace.get_current_span()).is_recording():
            return nullcontext(current)
        return self._tracer.start_as_current_span(
            method,
            kind=trace.SpanKind.CLIENT,
            attributes={"rpc.system.name": "connectrpc", "rpc.method": method},
            record_exception=False,
            set_status_on_exception=False,
        )

    def _authenticate(self, ctx: Context) -> Secrets:
        """Add the caller's credentials, and return the secrets in them."""
        headers = ctx.request_headers()
        headers["x-request-id"] = request_calls().request_id or str(uuid.uuid4())
        # Where to sign in is asked without credentials.
        if self._is_plaintext or ctx.method().service_name == "flyteidl2.auth.AuthMetadataService":
            return Secrets([])
        headers.update(credentials := callers_credentials())
        return secrets_in(credentials)


def callers_credentials() -> tuple[tuple[str, str], ...]:
    """Return the headers with which to call as the caller.

    Raises:
        ConnectError: There are none, so the call would be anonymous.
    """
    if credentials := forwarded_credentials():
        return credentials
    raise ConnectError(
        Code.UNAUTHENTICATED,
        "there are no caller's credentials here: call Flyte while serving a request, not in a"
        " thread of your own or at start-up",
    )


def _correct(filters: Iterable[Filter]) -> None:
    """Put right how the SDK writes two filters of runs and actions.

    Flyte calls the person who has started a run ``created_by_subject``. A single phase is sent
    digit by digit, as ``["1", "0"]`` for "recovered", which Flyte refuses.
    """
    for each in filters:
        if each.field == "created_by":
            each.field = "created_by_subject"
        if each.field == "phase" and each.function == Filter.EQUAL:
            each.values[:] = ["".join(each.values)]


async def _has_nothing_more(request: Any, method: str, is_first: bool, silent: int) -> bool:
    """Tell whether a silent stream can be given up.

    Flyte keeps a log open after the run has ended. A watch sends the state at once; after that,
    silence means that the task is working, or that Flyte hangs: it is watched anew.

    Raises:
        DeadlineExceededError: Flyte has not sent anything.
    """
    if method == "TailLogs" and hasattr(request, "action_id"):
        return (await remote.ActionDetails.get_details.aio(request.action_id)).done()
    if method.startswith("Watch") and is_first:
        raise DeadlineExceededError(method)
    return method.startswith("WatchAction") and silent >= RENEWAL

"""Makes each call to Flyte as the request's caller."""

import asyncio
import re
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.request import RequestContext
from flyte import remote
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .caller import forwarded_credentials
from .errors import DeadlineExceededError
from .large_lists import correct_filters, list_in_parts
from .redaction import safe_errors
from .request_calls import request_calls
from .transport import HttpClient

Context = RequestContext[Any, Any]
HandOver = Callable[[Any], Awaitable[None]]

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
    _propagator = TraceContextTextMapPropagator()

    def __init__(self, is_plaintext: bool, client: HttpClient) -> None:
        self._is_plaintext, self._client = is_plaintext, client

    async def intercept_unary(
        self, call_next: Callable[[Any, Context], Awaitable[Any]], request: Any, ctx: Context
    ) -> Any:
        """Make a call with a single answer; retry one that only reads if Flyte is unreachable."""
        calls, name, began = request_calls(), ctx.method().name, time.perf_counter()
        if name in {"ListRuns", "ListActions"}:
            correct_filters(request.request.filters)
        pauses = iter(PAUSES if re.match(r"Get|List|Select|User", name) else ())
        with self._call(ctx) as method:
            if name == "CreateRun":
                calls.deadline.extend()

            async def call() -> Any:
                while True:
                    try:
                        with safe_errors(method):
                            return await call_next(request, ctx)
                    except ConnectError as error:
                        pause = next(pauses, None) if error.code is Code.UNAVAILABLE else None
                        if not pause:
                            raise
                    await asyncio.sleep(pause)

            try:
                async with asyncio.timeout(calls.deadline.timeout):
                    if name.startswith("List"):
                        answer = await list_in_parts(call, request, ctx.method().output)
                    else:
                        answer = await call()
            except TimeoutError:
                self._client.forget_connections(began)
                raise DeadlineExceededError(method) from None
            else:
                if name == "CreateRun":
                    calls.run = answer.run.action.id.run.name
                return answer
            finally:
                calls.seconds += time.perf_counter() - began

    async def intercept_server_stream(
        self, call_next: Callable[[Any, Context], AsyncGenerator[Any]], request: Any, ctx: Context
    ) -> AsyncGenerator[Any]:
        """Make a call that returns a stream, and end it when nothing more will come."""

        async def read(hand_over: HandOver) -> None:
            with self._call(ctx) as method, safe_errors(method):
                async with aclosing(call_next(request, ctx)) as stream:
                    async for message in stream:
                        await hand_over(message)
                        del message

        reader, is_first, silent = _Reader(read), True, 0
        try:
            while True:
                try:
                    message = await reader.next(request_calls().deadline.timeout)
                except TimeoutError:
                    silent += 1
                    ends = await _has_nothing_more(request, ctx.method().name, is_first, silent)
                    if ends and reader.queue.empty():
                        return
                    continue
                if message is None:
                    break
                is_first, silent = False, 0
                yield message
                del message  # or it would be in memory until the next one comes
            await reader.task  # it may have failed
        finally:
            await reader.close()

    @contextmanager
    def _call(self, ctx: Context) -> Iterator[str]:
        """Make the block a call of the request. Yields its method, as ``service/method``.

        Flyte gets the ``traceparent`` header, which holds only random numbers, so that its own
        spans can join the trace. Baggage is not sent on: clients write it.
        """
        request_calls().received.release()
        self._authenticate(ctx)
        self._propagator.inject(ctx.request_headers())
        with request_calls().include():
            yield f"{ctx.method().service_name}/{ctx.method().name}"

    def _authenticate(self, ctx: Context) -> None:
        """Add the caller's credentials."""
        headers = ctx.request_headers()
        headers["x-request-id"] = request_calls().request_id or str(uuid.uuid4())
        # Where to sign in is asked without credentials.
        is_asked_by_all = ctx.method().service_name == "flyteidl2.auth.AuthMetadataService"
        if not (self._is_plaintext or is_asked_by_all):
            headers.update(callers_credentials())


class _Reader:
    """Reads a stream in a task of its own.

    Waiting for a message must not end the stream; and a generator, as its user is, may stay at its
    ``yield`` as long as something refers to it.
    """

    def __init__(self, read: Callable[[HandOver], Coroutine[Any, Any, None]]) -> None:
        self.queue = asyncio.Queue[Any]()
        self.task = asyncio.create_task(read(self._hand_over))
        self.task.add_done_callback(lambda _: self.queue.put_nowait(None))

    async def _hand_over(self, message: Any) -> None:
        self.queue.put_nowait(message)
        await self.queue.join()  # until it is taken; with Queue(1) a second would be in memory

    async def next(self, seconds: float) -> Any:
        """Return the next message, or None when the task has ended.

        Raises:
            TimeoutError: None has come in this time. The stream goes on.
        """
        async with asyncio.timeout(seconds):
            message = await self.queue.get()
        self.queue.task_done()
        return message

    async def close(self) -> None:
        """End the stream, and the task."""
        self.task.cancel()
        try:
            await asyncio.gather(self.task, return_exceptions=True)
        finally:
            del self.task  # its exception refers to this object: a cycle would keep messages


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

"""Makes the SDK's event loop safe: calls run in their caller's task."""

import asyncio
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from typing import Any

from anyio.lowlevel import checkpoint_if_cancelled
from flyte import remote
from flyte.syncify import syncify

from .errors import NotForManyCallersError
from .request_calls import request_calls
from .sdk import sdk_object


def change_loop() -> None:
    """Run awaited calls in the caller's own task and thread, so that they are cancelled with it."""
    kind = type(sdk_object("flyte.syncify:syncify._bg_loop"))
    call, iterate = kind.call_in_loop_sync, kind.iterate_in_loop_sync

    async def with_the_request(coro: Coroutine[Any, Any, Any]) -> Any:
        try:
            with request_calls().include():
                return await coro
        finally:
            coro.close()  # if it has not started, because the request has ended

    def call_in_loop_sync(self: Any, coro: Coroutine[Any, Any, Any]) -> Any:
        _refuse_to_block(coro)
        return call(self, with_the_request(coro))

    def iterate_in_loop_sync(self: Any, async_gen: AsyncIterator[Any]) -> Any:
        _refuse_to_block(async_gen)
        return iterate(self, async_gen)

    async def wait(self: Any, quiet: bool = False, wait_for: Any = "terminal") -> None:  # noqa: ARG001
        if not self.done():
            async for _ in self.watch(wait_for=wait_for):
                pass

    kind.is_in_loop = lambda _: True  # each loop counts as the SDK's own
    kind.call_in_loop_sync = call_in_loop_sync
    kind.iterate_in_loop_sync = iterate_in_loop_sync
    action: Any = remote.Action
    action.wait = wait  # the SDK's own prints, and swallows a cancellation
    logs = sdk_object("flyte.remote._logs:Logs")
    logs.tail = syncify(classmethod(_cancellable(logs.tail.fn.__func__)))


def _cancellable(tail: Callable[..., AsyncGenerator[Any]]) -> Callable[..., AsyncGenerator[Any]]:
    """Make a generator of log lines raise a cancellation, at which the SDK's own just ends.

    Without that, a log that was cut off by a deadline would look whole.
    """

    @functools.wraps(tail)
    async def cancellable(*args: Any, **options: Any) -> AsyncGenerator[Any]:
        async with aclosing(tail(*args, **options)) as lines:
            async for line in lines:
                yield line
        await checkpoint_if_cancelled()  # anyio recognises only its own cancellations
        task = asyncio.current_task()
        if request_calls().has_ended or (task and task.cancelling()):
            raise asyncio.CancelledError

    return cancellable


def _refuse_to_block(call: Any) -> None:
    """Refuse a blocking call in the event loop: it would block every caller for ever."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    name, begin = call.__qualname__, "async for … in"
    if isinstance(call, Coroutine):
        call.close()
        begin = "await"
    raise NotForManyCallersError(
        f"{name} blocks, and in an `async def` it would block every caller: write `{begin}"
        f" ….{name.rpartition('.')[2]}.aio(…)`, or make the endpoint a plain `def`"
    )

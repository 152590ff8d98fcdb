"""Makes the SDK's event loop safe: calls run in their caller's task."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from flyte import remote

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

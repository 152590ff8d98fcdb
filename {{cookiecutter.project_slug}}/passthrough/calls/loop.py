"""Makes the SDK's event loop safe: calls run in their caller's task."""

import asyncio
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from typing import Any

from anyio.lowlevel import checkpoint_if_cancelled
from flyte import remote
from flyte.errors import LogsNotYetAvailableError
from flyte.syncify import syncify

from .errors import NotForManyCallersError
from .request_calls import request_calls
from .sdk import sdk_object

Tail = Callable[..., AsyncGenerator[Any]]

LOG_PAUSE_SECONDS = 2.0
"""Between attempts to read a log that is not there yet, as in the SDK."""


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
    logs, app_logs = sdk_object("flyte.remote._logs:Logs"), sdk_object("flyte.remote._logs:AppLogs")
    sdk_object("flyte.remote._logs").Text = _Text
    logs.tail = syncify(classmethod(_cancellable(_read_once(logs.tail.fn.__func__))))
    app_logs.tail = syncify(classmethod(_cancellable(app_logs.tail.fn.__func__)))


class _Text:
    """Stands for rich's, which is slow for text beyond ASCII, and drops carriage returns, too."""

    def __init__(self, plain: str = "", style: str = "") -> None:  # noqa: ARG002
        for control in "\a\b\v\f":
            plain = plain.replace(control, "")
        self.plain = plain


def _read_once(tail: Tail) -> Tail:
    """Make a generator of log lines end with an error if its log disappears while it is read.

    The SDK's own then reads the log from its start: lines would come again.
    """

    @functools.wraps(tail)
    async def read_once(*args: Any, retry: int = 5, **options: Any) -> AsyncGenerator[Any]:
        for left in reversed(range(retry)):
            has_begun = False
            try:
                async with aclosing(tail(*args, retry=1, **options)) as lines:
                    async for line in lines:
                        has_begun = True
                        yield line
            except LogsNotYetAvailableError:
                if has_begun or not left:
                    raise
            else:
                return
            await asyncio.sleep(LOG_PAUSE_SECONDS)

    return read_once


def _cancellable(tail: Tail) -> Tail:
    """Make a generator of log lines raise a cancellation, at which the SDK's own just ends.

    Without that, half a log would look whole, and its endpoint would go on after its client left.
    """

    @functools.wraps(tail)
    async def cancellable(*args: Any, **options: Any) -> AsyncGenerator[Any]:
        number = 0
        async with aclosing(tail(*args, **options)) as lines:
            async for line in lines:
                yield line
                number += 1
                if number % 1000 == 0:  # a message may have many
                    await asyncio.sleep(0)
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

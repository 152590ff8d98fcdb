"""An endpoint's tasks cannot stop the server."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from ..calls.request_calls import current_calls
from .stopping import stopping

EXITS = (SystemExit, KeyboardInterrupt, GeneratorExit)


def contain_exits() -> None:
    """Make an exit in one of a request's tasks an ordinary error.

    asyncio ends the event loop if a task raises ``SystemExit``, as argparse and click do. Streams
    run in tasks that FastAPI starts, and so does an endpoint behind an owner's middleware.
    """
    loop = asyncio.get_running_loop()
    make: Any = loop.get_task_factory() or _make_task

    def make_contained(loop: Any, coro: Any, **options: Any) -> Any:
        in_request = current_calls.get() is not None
        return make(loop, _Contained(coro) if in_request else coro, **options)

    loop.set_task_factory(make_contained)


def _make_task(loop: Any, coro: Any, **options: Any) -> Any:
    return asyncio.Task(coro, loop=loop, **options)


class _Contained(Coroutine[Any, Any, Any]):
    """A coroutine whose exits are errors."""

    def __init__(self, coro: Any) -> None:
        self._coro = coro

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coro, name)  # such as cr_frame

    def __await__(self) -> Any:
        return (yield from self._coro.__await__())

    def send(self, value: Any) -> Any:
        return self._step(self._coro.send, value)

    def throw(self, error: Any, *_: Any) -> Any:
        return self._step(self._coro.throw, _as_error(error))  # of a thread, perhaps

    def close(self) -> None:
        self._coro.close()

    def _step(self, step: Any, given: Any) -> Any:
        try:
            return step(given)
        except EXITS as error:
            contained = _as_error(error)
            raise contained from contained.__cause__


def _as_error(error: BaseException) -> BaseException:
    if not isinstance(error, EXITS) or stopping.is_interrupt(error):
        return error
    made = RuntimeError(f"a task raised {type(error).__name__}")
    made.__cause__ = error
    return made

"""An endpoint's tasks cannot stop the server."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from ..calls.request_calls import current_calls
from .stopping import stopping


def contain_exits() -> None:
    """Make ``SystemExit`` and ``KeyboardInterrupt`` in a request's tasks ordinary errors.

    asyncio ends the event loop if a task raises one, as ``sys.exit``, argparse and click do.
    Streams run in tasks that FastAPI starts, and so does an endpoint behind an owner's middleware.
    """
    loop = asyncio.get_running_loop()
    make: Any = loop.get_task_factory() or (
        lambda loop, coro, **options: asyncio.Task(coro, loop=loop, **options)
    )

    def contained(loop: Any, coro: Any, **options: Any) -> Any:
        return make(loop, coro if current_calls.get() is None else _Contained(coro), **options)

    loop.set_task_factory(contained)


class _Contained(Coroutine[Any, Any, Any]):
    """A coroutine, of which another exception arrives in place of an exit."""

    def __init__(self, coro: Any) -> None:
        self._coro = coro

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coro, name)  # such as cr_frame

    def __await__(self) -> Any:
        return (yield from self._coro.__await__())

    def send(self, value: Any) -> Any:
        return self._step(self._coro.send, value)

    def throw(self, *error: Any) -> Any:
        return self._step(self._coro.throw, *error)

    def close(self) -> None:
        self._coro.close()

    def _step(self, step: Any, *given: Any) -> Any:
        try:
            return step(*given)
        except (SystemExit, KeyboardInterrupt) as error:
            if stopping.is_interrupt(error):
                raise
            raise RuntimeError(f"a task raised {type(error).__name__}") from error

"""The work that one translation of values may take: a node counts 1, and a text by its length.

A node is a value or a type; one that a type multiplies (the variants of a union, a definition that
is referred to) counts again. So no type, however small, can multiply the work on a value.
"""

import math
from collections.abc import Callable
from itertools import chain
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread

from ..limits import limits

T = TypeVar("T")

CHARS_OF_NODE = 32  # as many count as much as a node
IN_THE_LOOP = 4_000  # nodes; about 64 kB of JSON, and 20 ms
THREADS = CapacityLimiter(2)
TOO_LARGE = "too large, or nested too deep"


class TooComplexError(Exception):
    """The translation would take too much work, or its source is nested too deep."""


class _MoreWorkError(Exception):
    """The translation takes more work than the event loop may do at once."""


class Budget:
    """The nodes that one translation has left: twice ``Limits.values``, because of unions.

    Beyond them, ``error`` is raised.
    """

    def __init__(self, nodes: int | None = None, error: type[Exception] = TooComplexError) -> None:
        self._left = 2 * limits().values if nodes is None else nodes
        self._levels, self._error = limits().levels, error

    def spend(self, depth: int, size: int = 0) -> None:
        """Charge for one node, and a text of this length in it, at this depth of nesting.

        Raises:
            TooComplexError: It is nested deeper than ``Limits.levels``, or no nodes are left.
        """
        self._left -= 1 + size // CHARS_OF_NODE
        if depth > self._levels:
            raise TooComplexError
        if self._left < 0:
            raise self._error

    def spend_on(self, value: Any, depth: int = 0) -> None:
        """Charge for a value, but not for its items."""
        self.spend(depth, len(value) if isinstance(value, str) else 0)


async def translated(translate: Callable[[Budget], T]) -> T:
    """Return a translation, which begins in the event loop.

    A larger one starts again in one of two threads. While a thread works, other
    requests wait for the interpreter's 5 ms at most.
    """
    try:
        return translate(Budget(IN_THE_LOOP, _MoreWorkError))
    except _MoreWorkError:
        return await to_thread.run_sync(translate, Budget(), limiter=THREADS)


def check_json(value: Any) -> None:
    """Check parsed JSON, in which a task's inputs may be some levels deep.

    Raises:
        ValueError: It is nested too deep, or has a number such as 1e400: infinity in Python.
    """
    level, most = [value], limits().levels + 10
    for _ in range(most + 1):
        if any(type(item) is float and not math.isfinite(item) for item in level):
            raise ValueError('a number is too large for JSON: infinity is written "Infinity"')
        containers = [item for item in level if isinstance(item, dict | list)]
        if not containers:
            return
        items = (item.values() if isinstance(item, dict) else item for item in containers)
        level = [*chain.from_iterable(items)]
    raise ValueError(f"JSON may be nested up to {most} levels deep")

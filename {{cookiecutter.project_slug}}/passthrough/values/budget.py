"""The work that one translation of values may take, counted in nodes, whatever a type asks for.

A value or a type is a node each time it is looked at. For example, each item of a list of a union
of ten types may count eleven times. A text counts by its length, too.
"""

import math
from typing import Any

from ..limits import limits

CHARS_OF_NODE = 32  # as many count as much as a node


class TooComplexError(Exception):
    """The translation would take too much work, or its source is nested too deep."""


class MoreWorkError(Exception):
    """The translation takes more work than the event loop may do at once."""


class Budget:
    """The nodes that one translation has left."""

    def __init__(self, nodes: int | None = None, error: type[Exception] = TooComplexError) -> None:
        self._left = limits().values if nodes is None else nodes
        self._levels, self._error = limits().levels, error

    def spend(self, depth: int, size: int = 0) -> None:
        """Charge for one node, of this size, or raise an error."""
        self._left -= 1 + size // CHARS_OF_NODE
        if depth > self._levels:
            raise TooComplexError
        if self._left < 0:
            raise self._error


def check_json(values: dict[str, Any] | list[Any], depth: int = 0) -> None:
    """Refuse JSON that is nested too deep, or has what Python reads as JSON: NaN, or 1e400."""
    if depth > (most := limits().levels + 10):  # a task's inputs are some levels deep in it
        raise ValueError(f"JSON may be nested up to {most} levels deep")
    for value in values.values() if isinstance(values, dict) else values:
        if isinstance(value, dict | list):
            check_json(value, depth + 1)
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueError('a number is infinite or NaN: write "Infinity", "-Infinity" or "NaN"')

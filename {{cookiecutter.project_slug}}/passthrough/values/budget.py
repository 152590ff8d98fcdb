"""The work that one translation of values may take, counted in nodes, whatever a type asks for.

A value or a type is a node each time it is looked at. For example, each item of a list of a union
of ten types may count eleven times. A text counts by its length, too.
"""

from ..limits import limits

CHARS_OF_NODE = 32  # so many characters count as one node


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

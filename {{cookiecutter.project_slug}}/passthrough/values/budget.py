"""The work that one translation of values may take."""

from itertools import chain
from typing import Any

from ..limits import MAX_LEVELS, MAX_STEPS

# What work costs, in bytes of text in JSON that take as long:
STEP = 32  # looking at a value, a name or a type
MESSAGE = 2 * STEP  # building a message of protobuf, besides checking its value
ITEM = 8  # making an item of a list, or an entry of a map, of msgpack
COMPARISON = 4  # with a member of an enum, or with a variant of a union

SIX_BYTES = bytes({*range(32)} - {*b"\b\t\n\f\r"})
"""Characters that take six bytes in JSON."""

TOO_LARGE = f"too large, or nested deeper than {MAX_LEVELS} levels"


def is_within(value: Any, max_values: int, max_levels: int) -> bool:
    """Tell whether parsed JSON has at most so many values, nested at most so many levels deep."""
    count, level = 0, [value]
    for _ in range(max_levels + 1):
        containers = [each for each in level if isinstance(each, dict | list)]
        if not containers:
            return True
        items = [each.values() if isinstance(each, dict) else each for each in containers]
        count += sum(map(len, items))
        if count > max_values:
            return False
        level = [*chain.from_iterable(items)]
    return False


class TooComplexError(Exception):
    """The translation was stopped because it would take too much work."""


class Budget:
    """The amount of work that one translation has left.

    Raises:
        TooComplexError: From each method, if it is nested too deep, or costs more than is left.
    """

    def __init__(self) -> None:
        self._steps = MAX_STEPS

    def spend(self, depth: int, size: int = 0) -> None:
        """Charge for one value, and for this size in bytes, at this depth of nesting."""
        self._charge(depth, 1 + size // STEP)

    def spend_text(self, depth: int, text: str) -> None:
        """Charge for a text, at this depth of nesting, by the bytes that it takes in JSON."""
        self.spend(depth, len(text))
        if not (text.isascii() and text.isprintable()):
            sent = text.encode("utf-8", "surrogatepass")
            others = len(sent.translate(None, SIX_BYTES))
            in_json = 6 * (len(sent) - others) + others
            self._charge(depth, (in_json - len(text)) // STEP)  # the rest of what it takes

    def _charge(self, depth: int, steps: int) -> None:
        left = self._steps - steps
        if depth > MAX_LEVELS or left < 0:
            raise TooComplexError
        self._steps = left

    def spend_on(self, value: Any, depth: int = 0) -> None:
        """Charge for a value with all its items, before anything is made of it."""
        if isinstance(value, str):
            self.spend_text(depth, value)
        else:
            self.spend(depth)
        if isinstance(value, list | tuple):
            for item in value:
                self.spend_on(item, depth + 1)
        elif isinstance(value, dict):
            for key, item in value.items():
                self.spend_on(key, depth)
                self.spend_on(item, depth + 1)

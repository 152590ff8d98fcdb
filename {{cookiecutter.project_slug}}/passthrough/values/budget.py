"""The work that one translation of values may take."""

from ..limits import MAX_LEVELS, MAX_STEPS

TOO_LARGE = f"too large, or nested deeper than {MAX_LEVELS} levels"


class TooComplexError(Exception):
    """The translation was stopped because it would take too much work."""


class Budget:
    """The amount of work that one translation has left."""

    def __init__(self) -> None:
        self._steps = MAX_STEPS

    def spend(self, depth: int, size: int = 0) -> None:
        """Charge for one value of this size in bytes, at this depth of nesting.

        Raises:
            TooComplexError: If it is nested too deep, or costs more than is left.
        """
        left = self._steps - 1 - size // 32
        if depth > MAX_LEVELS or left < 0:
            raise TooComplexError
        self._steps = left

"""Limits on one translation."""

MAX_NAMES = 500
"""The most inputs, or outputs, that a task may have."""

MAX_DEPTH = 30
"""Levels of nesting. A union takes three nested messages; protobuf reads at most 100."""

MAX_STEPS = 25_000
"""Values per translation; each 32 bytes of text count as one more. A translation blocks the event
loop, for at most 100 ms."""

TOO_LARGE = f"too large, or nested deeper than {MAX_DEPTH} levels"


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
        if depth > MAX_DEPTH or left < 0:
            raise TooComplexError
        self._steps = left

"""Limits on one translation."""

MAX_NAMES = 500
"""Inputs, or outputs, that a task may have."""

MAX_DEPTH = 30
"""Levels of nesting. A union is three messages deep, and protobuf reads no more than 100."""

MAX_STEPS = 25_000
"""Values looked at in one translation; 32 bytes of text count as one more. The event loop waits for
it, about 60 ms at worst, for a list of as many numbers as may be."""


class TooComplexError(ValueError):
    """The translation was given up because it would take too much work."""


class Budget:
    """What is left of the work that one translation may be."""

    def __init__(self) -> None:
        self._steps = MAX_STEPS

    def spend(self, depth: int, size: int = 0) -> None:
        """Pay for one value.

        Args:
            depth: How deep it is nested.
            size: How many bytes there are to go through.

        Raises:
            TooComplexError: If it is nested too deep, or costs more than is left.
        """
        left = self._steps - 1 - size // 32
        if depth > MAX_DEPTH or left < 0:
            raise TooComplexError
        self._steps = left

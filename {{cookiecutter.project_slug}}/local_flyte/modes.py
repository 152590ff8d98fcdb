"""The three Flytes that the local one can be like."""

from enum import Enum, auto


class Mode(Enum):
    """A way in which Flyte is run, and so what it knows of its callers."""

    UNION = auto()
    """Callers prove who they are, and have rights on a project."""
    OPEN_SOURCE = auto()
    """A proxy in front authenticates; who has passed it may do everything.

    Callers are whom their token, or the proxy's headers, claim.
    """
    DEVBOX = auto()
    """Plaintext: everyone is nobody, and may do everything."""

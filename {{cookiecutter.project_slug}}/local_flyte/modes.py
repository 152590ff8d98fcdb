"""The three kinds of Flyte that the local one can act like."""

from enum import Enum, auto


class Mode(Enum):
    """A kind of Flyte, which determines how it identifies callers."""

    UNION = auto()
    """Callers are authenticated, and have rights on a project."""
    OPEN_SOURCE = auto()
    """A proxy in front authenticates callers, who may then do everything.

    The caller's identity comes from the token or the proxy's headers, unverified.
    """
    DEVBOX = auto()
    """Plaintext: every caller is anonymous, and may do everything."""

"""The limits of one message, one request and one caller.

An owner changes them in ``app/settings.py``. Two more are settings: ``LARGEST_BODY`` and
``OPEN_REQUESTS_PER_CALLER``. What has no limit here is bounded by ``request_bytes``.

Who says 413, of what:

- Starlette, of a request's body, by ``LARGEST_BODY`` or its route's ``max_body_size``: a file's is
  ``file_bytes``. ``http/exchange.py`` makes it a problem.
- ``calls/request_state.py``, of what Flyte sends: ``answer_bytes`` and ``request_bytes``. A list is
  then asked for in parts (``calls/interceptor.py``).
- Flyte, of inputs and outputs above 2 MiB (``calls/redaction.py`` knows the error's text).

Who says 422: FastAPI, of a request's values; ``values/inputs.py``, of a task's inputs, also with
too many values or levels; ``calls/starting.py``, of a rerun that the SDK refuses;
``dependencies.py``, of whose runs to list; and endpoints. Too long a query is a 414
(``http/middleware.py``).
"""

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What one message, one request and one caller may cost, with the answer beyond each."""

    file_bytes: int = 100_000_000
    """Of a file that is uploaded. Beyond: 413, before it is read if its length was told."""
    answer_bytes: int = 5_000_000
    """Of one message of Flyte's: inputs and outputs have up to 2 MiB each. Beyond: 413."""
    request_bytes: int = 8_000_000
    """Of all that Flyte sends for a request between two messages to its client; the details of each
    action count alone. Beyond: 413."""
    values: int = 500_000
    """In inputs, outputs or a type; a value of a union counts for each type that is tried. Beyond:
    422 for inputs, a reference instead of an output."""
    levels: int = 30
    """Of nesting, of a value or a type. Beyond: 422, or a reference instead of the value."""
    text_chars: int = 20_000
    """Of a text of Flyte's, such as an error. The rest is cut off, which shows; a question that is
    cut off has no buttons on the page."""


DEFAULTS = Limits()
current_limits: ContextVar[Limits] = ContextVar("current_limits", default=DEFAULTS)
"""The limits of the app that serves the current request; `RequestMiddleware` sets it."""
limits = current_limits.get
"""Return the limits of the current request's app; outside of a request, the defaults."""

CHARS_OF_NODE = 32  # so many characters of a value or a type count as one node


class TooComplexError(Exception):
    """The translation of a value would take too much work, or its source is nested too deep."""


class MoreWorkError(Exception):
    """The translation takes more work than the event loop may do at once."""


class Budget:
    """The work that one translation of values may still take, in nodes, whatever a type asks for.

    A value or a type is a node each time it is looked at. For example, each item of a list of a
    union of ten types may count eleven times. A text counts by its length, too.
    """

    def __init__(self, nodes: int | None = None, error: type[Exception] = TooComplexError) -> None:
        """Allow this many nodes, by default `Limits.values`; beyond, raise this error."""
        self._left, self._levels = nodes or limits().values, limits().levels
        self._error = error

    def spend(self, depth: int, size: int = 0) -> None:
        """Charge for one node, of this size, or raise an error."""
        self._left -= 1 + size // CHARS_OF_NODE
        if depth > self._levels:
            raise TooComplexError
        if self._left < 0:
            raise self._error

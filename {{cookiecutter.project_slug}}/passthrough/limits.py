"""The limits of one message, one request and one caller: docs/limits.md has them as a table.

Developers change a `Limits` value in ``app/settings.py``. The settings ``MAX_BODY_SIZE`` and
``MAX_CONCURRENT_REQUESTS_PER_CALLER`` are limits, too.

These places respond with 413:

- Starlette, if a body is larger than ``MAX_BODY_SIZE`` or than its route's ``max_body_size``, which
  for files is ``max_upload_bytes``. ``http/response.py`` makes the response a problem.
- ``calls/request_state.py``, if Flyte sends more than ``max_message_bytes`` or
  ``max_received_bytes``. For a list, the app then asks for a smaller page
  (``calls/interceptor.py``).
- Flyte, if inputs or outputs have more than 2 MiB (``calls/redaction.py`` knows the error's text).

These respond with 422: FastAPI for invalid values of a request; ``values/inputs.py`` for invalid
inputs of a task, also with too many values or levels; ``calls/make_safe.py`` for a rerun that the
SDK refuses; ``dependencies.py`` for a subject that is not the caller's; and endpoints. A query that
is too long is a 414 (``http/middleware.py``).
"""

import warnings
from contextvars import ContextVar
from dataclasses import dataclass

OLD_NAMES = {
    "file_bytes": "max_upload_bytes",
    "answer_bytes": "max_message_bytes",
    "request_bytes": "max_received_bytes",
    "values": "max_nodes",
    "levels": "max_depth",
    "text_chars": "max_text_chars",
}
"""Former names of limits, with their new names. They work until the next major version."""


@dataclass(frozen=True, init=False)
class Limits:
    """The limits that developers may change, such as ``Limits(max_message_bytes=10_000_000)``."""

    max_message_bytes: int = 5_000_000
    """Maximum size of one message from Flyte. A larger one is a 413; a list is read in smaller
    pages, without entries that are too large alone."""
    max_received_bytes: int = 8_000_000
    """Maximum size of all messages that Flyte sends for one request between two parts of its
    response; the details of each action in a list count alone. Beyond, the response is a 413."""
    max_large_messages: int = 1
    """Memory slots for messages: requests that may hold a message from Flyte above 64 kB at the
    same time. Further ones wait. Each may take 350 MB."""
    max_large_bodies: int = 2
    """Memory slots for bodies: JSON bodies above 128 kB, or with more than 4,000 values, that may
    be parsed at the same time. Further ones wait. Each may take 100 MB."""
    max_upload_bytes: int = 100_000_000
    """Maximum size of an uploaded file. A larger one is a 413."""
    max_uploads_per_user: int = 5
    """Uploads larger than `MAX_BODY_SIZE` that the app receives from one user at the same time,
    because they are stored on disk. Further ones wait."""
    max_nodes: int = 500_000
    """Maximum number of values in inputs, outputs or a type. A value of a union counts once for
    each type that is tried, and a long text counts by its length. Beyond, inputs are a 422, and an
    output is shown as a reference."""
    max_depth: int = 30
    """Maximum nesting of a value or a type. Beyond, inputs are a 422, and an output is shown as a
    reference."""
    max_text_chars: int = 20_000
    """Maximum number of characters of a text from Flyte, such as an error. The rest is omitted, and
    the end of the text says so. A condition with an omitted part has no buttons in the web UI."""

    def __init__(self, **changed: int) -> None:
        """Change some of the limits.

        Raises:
            TypeError: There is no limit of that name.
        """
        for name, value in changed.items():
            if (new := _new_name(name)) not in self.__dataclass_fields__:
                raise TypeError(f"Limits has no {name!r}: it has {[*self.__dataclass_fields__]}")
            object.__setattr__(self, new, value)

    def __getattr__(self, name: str) -> int:
        """Return a limit by its old name."""
        if name not in OLD_NAMES:
            raise AttributeError(name)
        value: int = getattr(self, _new_name(name))
        return value


def _new_name(name: str) -> str:
    if new := OLD_NAMES.get(name):
        warnings.warn(f"the limit {name!r} has been renamed: use {new!r}", FutureWarning, 3)
    return OLD_NAMES.get(name, name)


DEFAULTS = Limits()
current_limits: ContextVar[Limits] = ContextVar("current_limits", default=DEFAULTS)
"""The limits of the app that serves the current request; `RequestMiddleware` sets them."""
limits = current_limits.get
"""Return the limits of the current request's app; outside of a request, the defaults."""

CHARS_PER_NODE = 32  # a text counts as one node for each 32 characters


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
        """Allow this many nodes, by default `Limits.max_nodes`; beyond, raise this error."""
        self._left, self._max_depth = nodes or limits().max_nodes, limits().max_depth
        self._error = error

    def spend(self, depth: int, size: int = 0) -> None:
        """Charge for one node, of this size, or raise an error."""
        self._left -= 1 + size // CHARS_PER_NODE
        if depth > self._max_depth:
            raise TooComplexError
        if self._left < 0:
            raise self._error

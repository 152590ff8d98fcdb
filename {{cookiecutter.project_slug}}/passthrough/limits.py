"""The limits of one message, one request and one caller. A table of them is in docs/limits.md.

Developers change a `Limits` value in ``app/settings.py``. The settings ``MAX_BODY_SIZE`` and
``MAX_CONCURRENT_REQUESTS_PER_CALLER`` are also limits.

A response is a 413 in these cases:

- A body is larger than ``MAX_BODY_SIZE``, or than the ``max_body_size`` of a route, which for
  uploads is ``max_upload_bytes``. Starlette refuses it, and ``http/response.py`` makes the response
  a problem.
- Messages from Flyte are larger than ``max_message_bytes`` or ``max_received_bytes``
  (``calls/request_state.py``). If the message is a page of a list, the app fetches a smaller page
  (``calls/interceptor.py``).
- Inputs or outputs are larger than 2 MiB. Flyte refuses to return them, and ``calls/redaction.py``
  recognises the text of the error.

A response is a 422 in these cases:

- FastAPI finds invalid values in a request.
- Inputs of a task are invalid, too many, or nested too deep (``values/inputs.py``).
- The SDK refuses a rerun (``calls/make_safe.py``).
- A subject is not the subject of the caller (``dependencies.py``).

A query that is too long is a 414 (``http/middleware.py``).
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
"""Former names of limits with the current names. They work until the next major version."""


@dataclass(frozen=True, init=False)
class Limits:
    """The limits that developers may change.

    Example:
        class MySettings(Settings):
            limits = Limits(max_message_bytes=10_000_000, max_upload_bytes=20_000_000)
    """

    max_message_bytes: int = 5_000_000
    """Maximum size of one message from Flyte, in bytes. A larger message is a 413. Lists are read
    in smaller pages, and larger entries are omitted (header `X-Omitted-Count`)."""
    max_received_bytes: int = 8_000_000
    """Maximum size of all messages from Flyte for one request between two parts of the response, in
    bytes. More is a 413. In lists, the details of each action are counted separately."""
    max_large_messages: int = 1
    """Memory slots for messages: the maximum number of requests that hold a message from Flyte
    above 64 kB at the same time. Further requests wait. Each slot may take 350 MB."""
    max_large_bodies: int = 2
    """Memory slots for bodies: the maximum number of requests that hold a parsed JSON body above
    128 kB, or with more than 4,000 values, at the same time. Further requests wait. Each slot may
    take 100 MB."""
    max_upload_bytes: int = 100_000_000
    """Maximum size of an uploaded file, in bytes. A larger file is a 413."""
    max_uploads_per_user: int = 5
    """Concurrency limit of uploads: the maximum number of files above `MAX_BODY_SIZE` that one user
    uploads at the same time. Further uploads wait, because uploads take disk space."""
    max_nodes: int = 500_000
    """Maximum number of values in inputs, outputs or a type. A value of a union counts once for
    each type that is tried, and a text counts once per 32 characters. Inputs with more are a 422.
    An output with more is shown as a reference."""
    max_depth: int = 30
    """Maximum nesting depth of a value or a type, in levels. Inputs with more are a 422. An output
    with more is shown as a reference."""
    max_text_chars: int = 20_000
    """Maximum length of a text from Flyte, such as an error, in characters. A longer text is
    truncated, with a note at the end. The web UI has no buttons for a condition with a truncated
    prompt."""

    def __init__(self, **changed: int) -> None:
        """Change some of the limits.

        Args:
            changed: The new values by name. All other limits have defaults.

        Raises:
            TypeError: There is no limit with this name.
        """
        for name, value in changed.items():
            if (new := _new_name(name)) not in self.__dataclass_fields__:
                raise TypeError(f"Limits has no {name!r}: it has {[*self.__dataclass_fields__]}")
            object.__setattr__(self, new, value)

    def __getattr__(self, name: str) -> int:
        """Return a limit by a former name."""
        if name not in OLD_NAMES:
            raise AttributeError(name)
        value: int = getattr(self, _new_name(name))
        return value


def _new_name(name: str) -> str:
    """Return the current name of a limit; warn if this is a former name."""
    if new := OLD_NAMES.get(name):
        warnings.warn(f"the limit {name!r} has been renamed: use {new!r}", FutureWarning, 3)
    return new or name


DEFAULTS = Limits()
current_limits: ContextVar[Limits] = ContextVar("current_limits", default=DEFAULTS)
"""The limits of the app that serves the current request. `RequestMiddleware` sets them."""
limits = current_limits.get
"""Return the limits of the app that serves the current request, by default `DEFAULTS`."""

CHARS_PER_NODE = 32  # characters of a text that count as one node


class TooComplexError(Exception):
    """A value or a type has too many nodes, or is nested too deep."""


class MoreWorkError(Exception):
    """A translation takes more work than the event loop may do in one step."""


class Budget:
    """The number of nodes that one translation of values may still read.

    A value or a type counts as a node each time that the translation reads it. For example, each
    item of a list of a union of ten types may count eleven times. A text also counts by length.
    """

    def __init__(self, nodes: int | None = None, error: type[Exception] = TooComplexError) -> None:
        """Allow this many nodes, by default `Limits.max_nodes`; `spend` raises the error."""
        self._left, self._max_depth = nodes or limits().max_nodes, limits().max_depth
        self._error = error

    def spend(self, depth: int, size: int = 0) -> None:
        """Subtract one node of this size, or raise an error."""
        self._left -= 1 + size // CHARS_PER_NODE
        if depth > self._max_depth:
            raise TooComplexError
        if self._left < 0:
            raise self._error

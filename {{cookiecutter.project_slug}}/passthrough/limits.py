"""The limits of messages, requests and callers. docs/limits.md has a table of all limits.

Developers set ``limits`` in ``app/settings.py`` to change limits. The settings ``MAX_BODY_SIZE``
and ``MAX_CONCURRENT_REQUESTS_PER_CALLER`` are also limits.

The app responds with 413 in these cases:

- The body of a request is larger than ``MAX_BODY_SIZE``. A ``max_body_size`` of a route replaces
  this limit. For uploads, the limit is ``max_upload_bytes``. Starlette refuses the body, and
  ``http/response.py`` sends a problem response (RFC 9457) instead of Starlette's response.
- A message from Flyte is larger than ``max_message_bytes``, or all messages of one request together
  are larger than ``max_received_bytes`` (``calls/request_state.py``). If a page of a list is too
  large, the app fetches a smaller page instead of responding with 413 (``calls/interceptor.py``).
- Stored inputs or outputs are larger than 2 MiB, so Flyte does not return them.
  ``calls/redaction.py`` recognises this error by its text.

The app responds with 422 in these cases:

- FastAPI finds invalid values in a request.
- Inputs of a task are invalid, too many, or nested too deeply (``values/inputs.py``).
- The SDK refuses the inputs of a rerun (``calls/make_safe.py``).
- A query has ``mine``, but Flyte does not know the caller (``dependencies.py``).
- A query has both ``mine`` and the ``subject`` of another user (``dependencies.py``).

The app responds to a query that is too long with 414 (``http/middleware.py``).
"""

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits that developers may change.

    Example:
        class MySettings(Settings):
            limits = Limits(max_message_bytes=10_000_000, max_upload_bytes=20_000_000)
    """

    max_message_bytes: int = 5_000_000
    """Maximum size of one message from Flyte, in bytes. The app responds to a larger message with
    413. For a page of a list, the maximum is a twentieth of `max_received_bytes`. If a page is too
    large, the app instead fetches smaller pages, and omits up to 100 entries above this limit. The
    header `X-Omitted-Count` has the number of omitted entries."""
    max_received_bytes: int = 8_000_000
    """Maximum total size of the messages that the app receives from Flyte for one request, in
    bytes. The app responds to a larger total with 413. When the app sends a part of the response,
    the count starts again at zero. If an endpoint fetches the details of listed actions, the limit
    applies to each action separately."""
    max_large_messages: int = 1
    """Memory slots: the maximum number of requests that may hold a message of more than 64 kB from
    Flyte or a parsed JSON body of more than 128 kB, or convert more than 1,000 values, at the same
    time. Further requests wait. Each request with a slot may take 350 MB of memory."""
    max_upload_bytes: int = 100_000_000
    """Maximum size of an uploaded file, in bytes. The app responds to a larger file with 413."""
    max_uploads_per_user: int = 5
    """Concurrency limit of uploads: the maximum number of files above `MAX_BODY_SIZE` that one user
    may upload at the same time. Further uploads wait, because uploads take disk space."""
    max_nodes: int = 500_000
    """Maximum number of values in the inputs or outputs of an action, and maximum number of parts
    of a type. A value of a union counts once for each type that the app tries, and a text counts
    once per 32 characters. A value of a union, a file or a dataframe is stored with a copy of the
    type. If the copy has more than 16 bytes, every 2 bytes count once. The app refuses inputs above
    this limit with 422. If an output is above this limit, the app shows a reference instead of the
    value."""
    max_depth: int = 30
    """Maximum nesting depth of a value or a type, in levels. The app refuses inputs above this
    limit with 422. If an output is above this limit, the app shows a reference instead of the
    value."""
    max_text_chars: int = 20_000
    """Maximum length of a text from Flyte, such as an error, in characters. The app truncates a
    longer text, and adds a note at the end. In a list of details of more than ten actions or
    conditions, the maximum length is smaller: ten times this limit, divided by the number of
    entries. If the prompt of a condition is truncated, the web UI has no buttons for this
    condition."""


DEFAULTS = Limits()
current_limits: ContextVar[Limits] = ContextVar("current_limits", default=DEFAULTS)
"""The limits of the app that serves the current request. `RequestMiddleware` sets them."""
limits = current_limits.get
"""Return the limits of the app that serves the current request. Outside of a request, return
`DEFAULTS`."""

CHARS_PER_NODE = 32  # this many characters of a text count as one node


class TooComplexError(Exception):
    """A value or a type has too many nodes, or is nested too deeply."""


class MoreWorkError(Exception):
    """A conversion would block the event loop for too long, so it must run in a thread."""


class Budget:
    """Limits the number of nodes that one conversion of values or types may read.

    A value or a type counts as a node each time that the conversion reads it. For example, if the
    item type of a list is a union of ten types, each item may count eleven times. A long text
    counts as several nodes.
    """

    def __init__(self, nodes: int | None = None, error: type[Exception] = TooComplexError) -> None:
        """Allow ``nodes`` nodes (default: `Limits.max_nodes`). Raise ``error`` for more nodes."""
        self._left, self._max_depth = nodes or limits().max_nodes, limits().max_depth
        self._error = error

    def end(self) -> None:
        """Stop a conversion in another thread, because the next call of `spend` raises an error."""
        self._max_depth = -1

    def spend(self, depth: int, size: int = 0) -> None:
        """Count a node. A text of ``size`` characters may count as several nodes.

        Raises:
            TooComplexError: ``depth`` is greater than `Limits.max_depth`, or the budget has no
                nodes left.
            MoreWorkError: All nodes of the budget for the event loop are spent, so the conversion
                must start again in a thread.
        """
        self._left -= 1 + size // CHARS_PER_NODE
        if depth > self._max_depth:
            raise TooComplexError
        if self._left < 0:
            raise self._error

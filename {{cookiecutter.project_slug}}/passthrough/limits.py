"""The limits of one message, one request and one caller.

`Limits` has all of them; an owner changes some in ``app/settings.py``. What has no limit here is
bounded by these: all that Flyte sends for a request is counted in ``request_bytes``, and a caller
has ``OPEN_REQUESTS_PER_CALLER`` requests at once.
"""

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What one message, one request and one caller may cost, with the answer beyond each."""

    header_bytes: int = 64 * 1024
    """Of a request's headers, with its URL. Beyond: 431."""
    file_bytes: int = 100_000_000
    """Of a file that is uploaded. Beyond: 413, before it is read."""
    agent_message_bytes: int = 256 * 1024
    """Of a message of an agent; files and large inputs are given by URI. Beyond: 413."""
    agent_result_bytes: int = 50_000
    """Of a response that a tool returns: an agent's context is dear. The rest is left out, and the
    result says so."""
    agent_result_seconds: float = 5.0
    """For reading what an endpoint streams, as a tool."""
    answer_bytes: int = 5_000_000
    """Of one message of Flyte's: inputs and outputs have up to 2 MiB each. Beyond: 413."""
    request_bytes: int = 8_000_000
    """Of all that Flyte sends for a request, between two messages to its client. Beyond: 413."""
    values: int = 250_000
    """In a body. Beyond: 413. Inputs may have as many, and twice as many in unions, beyond: 422; of
    outputs with more, a reference of the kind "too large" is shown."""
    levels: int = 30
    """Of nesting, of a value or a type. Beyond: 422, or a reference instead of the value."""
    names: int = 500
    """Of a task's inputs. Beyond: 422."""
    name_chars: int = 255
    """Of an input's name. Beyond: 422."""
    text_chars: int = 20_000
    """Of a text of Flyte's, such as a description or an error. The rest is cut off, which shows."""
    errors: int = 100
    """In one answer. Further ones are left out: nobody reads more."""
    error_chars: int = 1000
    """Of an error's message. The rest is cut off."""
    log_record_chars: int = 10_000
    """Of a record of the app's log, with its traceback. The rest is cut off."""
    calls_at_once: int = 10
    """To Flyte, for the details of a list's entries. Further ones wait."""
    watched_details: int = 500
    """Actions of a run whose details a viewer gets. Of the rest, only of those that fail or ask."""


DEFAULTS = Limits()
current_limits: ContextVar[Limits] = ContextVar("current_limits", default=DEFAULTS)
"""The limits of the app that serves the current request; the door sets it."""


def limits() -> Limits:
    """Return the limits of the current request's app; outside of a request, the defaults."""
    return current_limits.get()


# TO BE REPLACED by the above, module by module.

MAX_BODY_BYTES = 1024 * 1024  # of a request; the default of LARGEST_BODY
MAX_HEADER_BYTES = 64 * 1024  # with the URL; h11 has lower limits, httptools none
MAX_ARRIVING_HEADER_BYTES = 512 * 1024  # while they arrive; then the connection is closed
MAX_PIPELINED_REQUESTS = 16  # of a connection, that wait for the response to another
MAX_WEBSOCKET_MESSAGE_BYTES = 4096
MAX_FRAME_BYTES_AT_ONCE = 16 * 1024  # of a WebSocket, before others are served
MAX_UNREAD_MESSAGES = 16  # of a WebSocket whose endpoint does not read
MAX_UNREAD_SECONDS = 10.0  # that a WebSocket's further messages wait; then it is closed
MAX_UNSENT_BYTES = 64 * 1024  # that the system keeps for a client who does not read; else 4 MB
MAX_STALLED_SECONDS = 30  # that a client takes nothing of it; then it is disconnected

MAX_ERRORS = 100  # in one answer; nobody reads more
MAX_ERROR_CHARS = 1000  # of Flyte's error message
MAX_HOLD_SECONDS = 1.0  # that the start, or the end, of an event stream is held back

MAX_LINE_CHARS = 10_000  # with the traceback
MAX_LINKS = 20  # exceptions in one traceback: causes, and those of a group
MAX_SUBJECT_CHARS = 200  # of the caller, in the access log

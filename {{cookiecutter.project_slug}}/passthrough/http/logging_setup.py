"""What is logged, and how: one formatter for the app, the SDK and the server."""

import json
import logging
import traceback
from datetime import UTC, datetime
from itertools import dropwhile
from pathlib import PurePath
from typing import TextIO

from ..calls.redaction import redact, shortened
from ..settings import Settings

OURS = ("app", "passthrough")
WITH_OWN_HANDLERS = ("uvicorn", "flyte")
LEFT_OUT = {"anyio", "fastapi", "passthrough", "starlette", "uvicorn"}
"""Packages whose frames, around an endpoint's, are the same in every traceback."""
logger = logging.getLogger(__name__)


class LogFormatter(logging.Formatter):
    """Formats a record without its caller's credentials; no text in it can look like a record.

    As JSON, a record is one line, with ``time`` (UTC), ``level``, ``logger`` and ``message``, or
    with the fields of the line for a request. As text, its further lines are indented, and
    characters that cannot be printed are escaped.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._is_json, self._chars = settings.log_format == "json", settings.limits.log_record_chars

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        message, fields = record.getMessage(), getattr(record, "fields", None)
        if record.exc_info and record.exc_info[1]:
            message += "\n" + traceback_of(record.exc_info[1])
        if not fields:  # else it is the line for a request, with no texts of others
            message = shortened(redact(message).rstrip(), self._chars)
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        if self._is_json:
            line = {"time": time, "level": record.levelname, "logger": record.name}
            return json.dumps(line | (fields or {"message": message}))
        lines = "\n    ".join(map(_printable, message.split("\n")))
        return f"{time} {record.levelname} {record.name}: {lines}"


def _printable(text: str) -> str:
    if text.isprintable():  # as nearly all are, and this is fast
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def traceback_of(error: BaseException) -> str:
    """Return the traceback of an exception, and of those behind it.

    The frames of packages in `LEFT_OUT` that come first are shown only with ``LOG_LEVEL=DEBUG``.
    """
    told = traceback.TracebackException.from_exception(error)
    if not logger.isEnabledFor(logging.DEBUG):
        _shorten(told)
    return "".join(told.format())


def _shorten(told: traceback.TracebackException) -> None:
    own = dropwhile(lambda frame: LEFT_OUT & {*PurePath(frame.filename).parts}, told.stack)
    told.stack = traceback.StackSummary.from_list([*own] or told.stack)
    for inner in (told.__cause__, told.__context__, *(told.exceptions or ())):
        if inner is not None:
            _shorten(inner)


class _Console(logging.StreamHandler[TextIO]):
    """Standard error."""


def set_up_logging(settings: Settings) -> None:
    """Show what is logged, unless the owner has configured logging.

    The levels of the packages `OURS` are those of the settings, of all others Python's: warnings.
    """
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(_Console())
    console = root.handlers[0]
    if not isinstance(console, _Console):
        return
    console.setFormatter(LogFormatter(settings))  # the SDK may have put another one around it
    for ours in map(logging.getLogger, OURS):
        ours.setLevel(ours.level or settings.log_level)
    logging.getLogger("app.access").setLevel(logging.INFO)
    for other in map(logging.getLogger, WITH_OWN_HANDLERS):
        other.handlers.clear()
        other.propagate = True

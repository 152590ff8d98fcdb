"""Configures logging with one format for the app, the SDK and the server."""

import atexit
import functools
import json
import logging
import time
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from queue import SimpleQueue

from ..calls.redaction import redact
from ..settings import Settings

PAUSE = 0.05  # seconds to wait when no record is left to write
MAX_RECORD_CHARS = 10_000  # includes the traceback; the middle of a longer record is omitted


class Writer(QueueListener):
    """A thread that writes log records to standard error, and pauses after the last record.

    Without the pause, the thread would wake up for each record, and a request would take a sixth
    more time.
    """

    def handle(self, record: logging.LogRecord) -> None:
        """Write one record."""
        super().handle(record)
        if self.queue.empty():  # type: ignore[attr-defined]
            time.sleep(PAUSE)


CONSOLE = QueueHandler(SimpleQueue())
"""Formats log records in the thread of the request, where `redact` knows the credentials.

Another thread writes the formatted records, because a write to standard error can block the event
loop."""


@functools.cache
def _start_writer() -> None:
    """Start the thread that writes records. At the end of the process, it writes all of them."""
    writer = Writer(CONSOLE.queue, logging.StreamHandler())
    writer.start()
    atexit.register(writer.stop)


class LogFormatter(logging.Formatter):
    """Formats log records and redacts the credentials of the caller.

    In the format ``json``, a record is one line with ``time`` (UTC), ``level``, ``logger``, and
    either ``message`` or the fields of the access log. In the format ``text``, all lines after the
    first are indented and unprintable characters are escaped, so that no part of a record can look
    like another record.

    Example:
        handler = logging.FileHandler("app.log", delay=True)
        handler.setFormatter(LogFormatter(settings))
        logging.getLogger("my_library").addHandler(handler)
    """

    def __init__(self, settings: Settings) -> None:
        """Make a formatter.

        Args:
            settings: The settings of the app, with the format of records in ``log_format``.
        """
        super().__init__()
        self._is_json = settings.log_format == "json"

    def format(self, record: logging.LogRecord) -> str:
        """Return a log record as JSON or as text."""
        message, fields = record.getMessage(), getattr(record, "fields", None)
        if record.exc_info:
            message += "\n" + self.formatException(record.exc_info)
        if not fields:  # a record with fields is a line of the access log: see `middleware._log`
            message = redact(message).rstrip()
            if len(message) > MAX_RECORD_CHARS:
                half = MAX_RECORD_CHARS // 2 - 2
                message = f"{message[:half]} … {message[-half:]}"
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        if self._is_json:
            line = {"time": time, "level": record.levelname, "logger": record.name}
            return json.dumps(line | (fields or {"message": message}))
        if not message.isprintable():  # rare, and fast to check
            message = "\n    ".join(map(_printable, message.split("\n")))
        return f"{time} {record.levelname} {record.name}: {message}"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _is_not_logged_elsewhere(record: logging.LogRecord) -> bool:
    """Return whether to keep a record of uvicorn. The app itself logs an incomplete response."""
    return record.msg != "ASGI callable returned without completing response."


def set_up_logging(settings: Settings) -> None:
    """Print the app's log and the warnings of libraries on standard error.

    If the root logger has another handler, the function only adds a filter to uvicorn's logger.
    """
    logging.getLogger("uvicorn.error").addFilter(_is_not_logged_elsewhere)
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(CONSOLE)
    if root.handlers[0] is not CONSOLE:
        return
    _start_writer()
    CONSOLE.setFormatter(LogFormatter(settings))  # the SDK wraps the formatters of root handlers
    for own in map(logging.getLogger, ("app", "passthrough")):
        own.setLevel(own.level or settings.log_level)
    logging.getLogger("app.access").setLevel(logging.INFO)
    for other in map(logging.getLogger, ("uvicorn", "flyte")):
        other.handlers.clear()
        other.propagate = True

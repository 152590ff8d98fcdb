"""What is logged, and how: one formatter for the app, the SDK and the server."""

import atexit
import json
import logging
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from queue import SimpleQueue
from typing import Any

from ..calls.redaction import redact
from ..settings import Settings

MOMENT = 0.05  # seconds
RECORD_CHARS = 10_000  # of a record, with its traceback; the middle is left out


class Writer(QueueListener):
    """A thread that writes texts to standard error."""

    def handle(self, record: Any) -> None:
        """Write a text, and wait a moment after the last one: to wake up for each costs more."""
        with suppress(OSError, ValueError):  # closed
            sys.stderr.write(record)
        if self.queue.empty():  # type: ignore[attr-defined]
            time.sleep(MOMENT)


class Console(QueueHandler):
    """Formats a record while its caller's credentials are known, for `Writer` to write it.

    A write lets all other threads go first, and each request has a record.
    """

    def __init__(self) -> None:
        super().__init__(SimpleQueue())
        self._writer: Writer | None = None

    def start(self) -> None:
        """Start the thread, which writes the last records when the process ends."""
        if not self._writer:
            self._writer = Writer(self.queue)
            self._writer.start()
            atexit.register(self._writer.stop)

    def prepare(self, record: logging.LogRecord) -> str:
        """Return the text to write."""
        return self.format(record) + "\n"


CONSOLE = Console()


class LogFormatter(logging.Formatter):
    """Formats a record without its caller's credentials; no text in it can look like a record.

    As JSON, a record is one line, with ``time`` (UTC), ``level``, ``logger``, and either
    ``message`` or the fields of a request's line. As text, its further lines are indented, and
    characters that cannot be printed are escaped.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._is_json = settings.log_format == "json"

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        message, fields = record.getMessage(), getattr(record, "fields", None)
        if record.exc_info:
            message += "\n" + self.formatException(record.exc_info)
        if not fields:  # else it is the line for a request, with no texts of others
            message = redact(message).rstrip()
            if len(message) > RECORD_CHARS:
                half = RECORD_CHARS // 2 - 2
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
    """Drop the server's record of an incomplete response, which the app logs if it is a bug."""
    return record.msg != "ASGI callable returned without completing response."


def set_up_logging(settings: Settings) -> None:
    """Log what the app says, and warnings of others, unless the owner has configured logging."""
    logging.getLogger("uvicorn.error").addFilter(_is_not_logged_elsewhere)
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(CONSOLE)
    if root.handlers[0] is not CONSOLE:
        return
    CONSOLE.start()
    CONSOLE.setFormatter(LogFormatter(settings))  # the SDK may have put another one around it
    for ours in map(logging.getLogger, ("app", "passthrough")):
        ours.setLevel(ours.level or settings.log_level)
    logging.getLogger("app.access").setLevel(logging.INFO)
    for other in map(logging.getLogger, ("uvicorn", "flyte")):
        other.handlers.clear()  # their own
        other.propagate = True

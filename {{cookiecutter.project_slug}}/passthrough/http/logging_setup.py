"""What is logged, and how: one formatter for the app, the SDK and the server."""

import asyncio
import json
import logging
from datetime import UTC, datetime

from ..calls.redaction import redact
from ..settings import Settings

MOMENT = 0.05  # seconds
RECORD_CHARS = 10_000  # of a record, with its traceback; the middle is left out


class Console(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to standard error: a warning at once, other records of a moment together.

    A write releases the interpreter: with one for each request, each waits for other threads.
    ``MemoryHandler`` would format a record when nobody knows its caller's credentials any more.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, now or in a moment."""
        try:
            self._lines.append(self.format(record) + self.terminator)
            loop = asyncio._get_running_loop()  # None in a thread
            if not loop or record.levelno >= logging.WARNING:
                self.flush()
            elif len(self._lines) == 1:
                loop.call_later(MOMENT, self.flush)
        except Exception:  # noqa: BLE001 - as any handler does
            self.handleError(record)

    def flush(self) -> None:
        """Write what has been kept."""
        self.acquire()
        try:
            lines, self._lines = "".join(self._lines), []
            self.stream.write(lines)
            super().flush()
        finally:
            self.release()


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
    CONSOLE.setFormatter(LogFormatter(settings))  # the SDK may have put another one around it
    for ours in map(logging.getLogger, ("app", "passthrough")):
        ours.setLevel(ours.level or settings.log_level)
    logging.getLogger("app.access").setLevel(logging.INFO)
    for other in map(logging.getLogger, ("uvicorn", "flyte")):
        other.handlers.clear()  # their own
        other.propagate = True

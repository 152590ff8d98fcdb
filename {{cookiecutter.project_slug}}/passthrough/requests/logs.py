"""What is logged: by uvicorn, and to the console, unless the owner has configured logging."""

import logging
import sys
from pathlib import Path
from typing import Any

from ..calls.errors import safe_lines
from ..settings import Settings

OURS = ("app", "passthrough")


def log_to_the_console(settings: Settings) -> None:
    """Show what the packages `OURS` log, and the line for each request."""
    access = logging.getLogger("app.access")
    if settings.access_log != "off" and not access.hasHandlers():
        access.addHandler(logging.StreamHandler(sys.stdout))
        access.setLevel(logging.INFO)
        access.propagate = False
    for logger in map(logging.getLogger, OURS):
        if not logger.hasHandlers():
            handler = logging.StreamHandler()
            handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
            logger.addHandler(handler)
            logger.setLevel(settings.log_level)
            logger.propagate = False


class _Formatter(logging.Formatter):
    """Makes records safe to show."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.message = safe_lines(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return safe_lines(super().formatException(ei))


def keep_credentials_out_of_uvicorns_log() -> None:
    """Stop uvicorn from logging a WebSocket's headers and query, and what an exception quotes.

    The door logs all exceptions; only ``GeneratorExit`` that a thread raises gets past it.
    """

    def is_safe(record: logging.LogRecord) -> bool:
        if "Exception in ASGI application" in str(record.msg):
            record.exc_info = None
        is_fault = record.levelno > logging.INFO and "completing handshake" not in str(record.msg)
        return is_fault or "websockets" not in Path(record.pathname).parts

    logging.getLogger("uvicorn.error").addFilter(is_safe)

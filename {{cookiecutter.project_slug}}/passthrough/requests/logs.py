"""What is logged to the console, unless the owner has configured logging."""

import logging
import sys
from typing import Any

from ..calls.caller import forwarded_credentials
from ..calls.errors import REMOVED, safe_lines, secrets_in
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
    """Leaves out what quotes the caller's credentials, and indents all lines but the first."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.message = _safe(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return _safe(super().formatException(ei))


def _safe(text: str) -> str:
    lines = safe_lines(text)
    return REMOVED if secrets_in(forwarded_credentials()).are_in(lines) else lines

"""What is logged: by uvicorn, and to the console, unless the owner has configured logging.

`safe_lines` is for what the SDK and its HTTP clients say (in `keep_credentials_out_of_logs`), for
why a request failed (in `problems`), and for all else that `OURS` say (in `_Formatter`, so not in
an owner's own handlers). Twice would indent twice: records of `problems` have ``is_safe``.
"""

import asyncio
import logging
import sys
import threading
import traceback
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
        if not hasattr(record, "is_safe"):
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


def log_failures_without_texts() -> None:
    """Log what fails outside of all requests, such as a task that nobody awaits, without its text.

    It may quote a credential, and nobody knows whose. An owner's own handlers remain.
    """
    logger = logging.getLogger("asyncio")

    def log(what: str, error: BaseException) -> None:
        places = "".join(traceback.format_tb(error.__traceback__)).rstrip()
        logger.error("%s: %s\n%s", what, type(error).__name__, places)

    def log_in_loop(loop: asyncio.AbstractEventLoop, failed: dict[str, Any]) -> None:
        if error := failed.get("exception"):
            log(failed["message"].partition("(")[0], error)  # a callback's arguments follow
        else:
            loop.default_exception_handler(failed)

    def log_in_thread(failed: threading.ExceptHookArgs) -> None:
        if failed.exc_value and failed.exc_type is not SystemExit:  # as Python does
            log("Exception in thread", failed.exc_value)

    def log_elsewhere(failed: Any) -> None:  # such as in a __del__
        if failed.exc_value:
            log("Exception ignored", failed.exc_value)

    loop = asyncio.get_running_loop()
    if not loop.get_exception_handler():
        loop.set_exception_handler(log_in_loop)
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = log_in_thread
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = log_elsewhere

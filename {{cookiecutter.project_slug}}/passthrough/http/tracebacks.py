"""Tracebacks that show where the app's own code failed."""

import logging
import traceback
from pathlib import PurePath

LEFT_OUT = {"anyio", "fastapi", "starlette", "uvicorn"}
"""Packages whose frames, around an endpoint's, are the same in every traceback."""
logger = logging.getLogger(__name__)


def traceback_of(error: BaseException) -> str:
    """Return the traceback of an exception, and of those behind it.

    The frames of packages in `LEFT_OUT` are shown only with ``LOG_LEVEL=DEBUG``.
    """
    told = traceback.TracebackException.from_exception(error)
    if not logger.isEnabledFor(logging.DEBUG):
        _shorten(told)
    return "".join(told.format())


def _shorten(told: traceback.TracebackException) -> None:
    own = [frame for frame in told.stack if not LEFT_OUT & {*PurePath(frame.filename).parts}]
    told.stack = traceback.StackSummary.from_list(own or told.stack)
    for inner in (told.__cause__, told.__context__, *(told.exceptions or ())):
        if inner is not None:
            _shorten(inner)

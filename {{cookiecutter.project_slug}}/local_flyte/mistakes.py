"""A mistake in the project's own code, told in a few lines."""

import os
import traceback
from pathlib import Path


def in_short(error: BaseException) -> str:
    """Return the project's own lines that led to an error, and last the error and its place."""
    if isinstance(error, SystemExit):  # a message, such as which setting is wrong
        return str(error)
    frames = [each for each in traceback.extract_tb(error.__traceback__) if _is_own(each.filename)]
    told = "".join(traceback.format_exception_only(error)).rstrip()
    if isinstance(error, SyntaxError):
        file = os.path.relpath(error.filename or "?")
        told += f"\n{file}, line {error.lineno}: SyntaxError: {error.msg}"
    elif frames:
        told = f"{os.path.relpath(frames[-1].filename)}, line {frames[-1].lineno}: {told}"
    return "".join(traceback.format_list(frames)) + told


def _is_own(file: str) -> bool:
    first = Path(os.path.relpath(file)).parts[0]
    return not first.startswith("<") and first not in {"..", ".venv", "local_flyte", "passthrough"}

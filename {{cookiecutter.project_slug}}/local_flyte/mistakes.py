"""A mistake in the project's own code, told in a few lines."""

import traceback
from pathlib import Path

NOT_OWN = {".venv", "local_flyte", "passthrough"}


def in_short(error: BaseException) -> str:
    """Return the project's own lines that led to an error, and last the error and its place."""
    if isinstance(error, SystemExit):  # a message, such as which setting is wrong
        return str(error)
    frames = [each for each in traceback.extract_tb(error.__traceback__) if _own(each.filename)]
    told = "".join(traceback.format_exception_only(error)).rstrip()
    if isinstance(error, SyntaxError):
        told = f"{told}\n{_place(error.filename, error.lineno)}SyntaxError: {error.msg}"
    elif frames:
        told = _place(frames[-1].filename, frames[-1].lineno) + told
    return "".join(traceback.format_list(frames)) + told


def _place(file: str | None, line: int | None) -> str:
    return f"{_own(file or '') or file}, line {line}: "


def _own(file: str) -> str:
    """Return the path in the project of one of its own files, or nothing."""
    path = Path(file)
    if not path.is_relative_to(Path.cwd()):
        return ""
    inside = path.relative_to(Path.cwd())
    return "" if inside.parts[0] in NOT_OWN else str(inside)

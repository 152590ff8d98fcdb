"""The errors of calls to Flyte, and keeping credentials out of their texts."""

import asyncio
import functools
import logging
import re
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import flyte.errors
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from google.protobuf.message import DecodeError

from ..limits import MAX_ERROR_CHARS, MAX_LINE_CHARS
from .caller import forwarded_credentials

MIN_SECRET_CHARS = 8
QUOTE_CHARS = 12  # consecutive characters of a credential that count as a quote
REMOVED = "(removed: it contains a credential)"
LOGGERS = ("asyncio", "connectrpc", "flyte", "httpcore", "httpx", "pyqwest")
TOO_LARGE = re.compile(r"limit exceeded\. [\d.]+mb > \d+mb")
"""Flyte's error (``ErrExceedsLimit``) if inputs or outputs are too large to be returned."""


class StartError(SystemExit):
    """The app cannot start. The message says why and what to do, without a traceback."""


class NotForManyCallersError(RuntimeError):
    """This part of the SDK is unsafe with many callers. The message says what to use instead."""


class DeadlineExceededError(flyte.errors.RuntimeSystemError):
    """Flyte did not answer in time. Not a ``TimeoutError``: the SDK would subscribe again."""

    def __init__(self, method: str) -> None:
        super().__init__("DeadlineExceeded", "Flyte did not answer in time")
        self.method = method


class TooLargeError(ConnectError):
    """A stored value is too large, or nested too deep, to be shown."""

    def __init__(self, text: str) -> None:
        super().__init__(Code.OUT_OF_RANGE, text)


FLYTE_ERRORS = (ConnectError, flyte.errors.BaseRuntimeError, TimeoutError)
"""The exceptions of a failed call to Flyte."""


class Secrets:
    """What no text may quote: credentials of a caller, or good parts of them."""

    def __init__(self, values: list[str]) -> None:
        self.values = values

    @functools.cached_property
    def _pieces(self) -> dict[int, set[str]]:
        pieces: dict[int, set[str]] = {}
        for value in map(_without_blanks, self.values):
            size = min(len(value), QUOTE_CHARS)
            if size >= MIN_SECRET_CHARS:
                pieces.setdefault(size, set()).update(_pieces_of(value, size))
        return pieces

    def are_in(self, text: str) -> bool:
        """Tell whether a text quotes one.

        Spaces, line breaks, invisible characters, and escapes of them do not hide it. The work
        grows with the length of the text and of the secrets, not with their product.
        """
        joined = _without_blanks(text)
        found = (known.isdisjoint(_pieces_of(joined, size)) for size, known in self._pieces.items())
        return not all(found)


def _pieces_of(text: str, size: int) -> Iterator[str]:
    return (text[i : i + size] for i in range(len(text) - size + 1))


def _without_blanks(text: str) -> str:
    text = re.sub(r"\\(x[01]\w|u20\w\w|[nrt])", "", text)
    return "".join(c for c in text if c.isprintable() and c != " ")


@contextmanager
def safe_errors(secrets: Secrets, method: str) -> Iterator[None]:
    """Make errors of a call safe to show: short, without credentials or details.

    Args:
        secrets: What their texts must not contain.
        method: The call, as ``service/method``. The errors have it as their attribute ``method``.

    Raises:
        asyncio.CancelledError: The Connect client turns it into CANCELED; the SDK would go on.
    """
    try:
        yield
    except ConnectError as error:
        cause = error.__cause__  # the SDK recognises a reset stream by it
        if isinstance(cause, asyncio.CancelledError):
            error.__cause__ = error.__context__ = None  # a cycle would keep Flyte's messages
            try:
                raise cause from None  # this very object: anyio recognises its own by its text
            finally:
                del cause
        raise _safe(error, secrets, method) from cause


def _safe(error: ConnectError, secrets: Secrets, method: str) -> ConnectError:
    safe, text = error, str(error.message or "")[:MAX_ERROR_CHARS]  # Flyte may send a null
    if error.code is Code.INTERNAL and method.endswith("/GetActionData") and TOO_LARGE.search(text):
        safe = TooLargeError("Flyte returns inputs and outputs of at most 2 MiB")
    elif isinstance(error.__cause__, DecodeError):
        safe = ConnectError(Code.INTERNAL, "the answer cannot be read")
    elif not isinstance(error, TooLargeError):
        safe = ConnectError(error.code, REMOVED if secrets.are_in(text) else text)
    safe.method = method  # type: ignore[attr-defined]
    return safe


def secrets_in(credentials: Iterable[tuple[str, str]]) -> Secrets:
    """Return the secrets in headers: no scheme of Authorization, and no names of cookies."""
    secrets: list[str] = []
    for name, value in credentials:
        if name == "cookie":
            pairs = [pair.partition("=") for pair in value.split(";")]
            secrets += [(own if equals else alone).strip(' "') for alone, equals, own in pairs]
        else:
            words = value.split()
            secrets += (name == "authorization" and words[1:]) or words
    return Secrets(secrets)


def keep_credentials_out_of_logs() -> None:
    """Make each record of the SDK and its HTTP clients safe to show.

    Filters would not do: a logger's do not apply to the records of its children.
    """
    make_record = logging.getLogRecordFactory()

    def make_safe_record(name: str | None, *args: Any, **more: Any) -> logging.LogRecord:
        record = make_record(name, *args, **more)
        if str(name).partition(".")[0] in LOGGERS:
            text = record.getMessage()
            if record.exc_info:
                text = "\n".join([text, *traceback.format_exception(record.exc_info[1])])
            record.msg, record.args, record.exc_info = safe_lines(text), (), None
        return record

    logging.setLogRecordFactory(make_safe_record)


def safe_lines(text: str) -> str:
    """Return a text for the log: short, without the caller's credentials and URLs' signatures.

    Its lines after the first are indented: a line break in a text of somebody else's then does not
    look like the start of a record.
    """
    text = shortened(text, MAX_LINE_CHARS)
    if secrets_in(forwarded_credentials()).are_in(text):
        return REMOVED
    text = re.sub(r"(://[^\s?]*)(\?\S+)?", lambda url: url[1] + ("?…" if url[2] else ""), text)
    return shortened("\n    ".join(map(_printable, text.split("\n"))), MAX_LINE_CHARS)


def shortened(text: str, most: int) -> str:
    """Return a text, or as much of its start and its end as may be shown."""
    half = most // 2 - 2
    return text if len(text) <= most else f"{text[:half]} … {text[-half:]}"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

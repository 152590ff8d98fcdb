"""The errors of calls to Flyte, and keeping credentials out of their texts."""

import asyncio
import logging
import re
import traceback
from collections.abc import Iterable
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
LOGGERS = ("connectrpc", "flyte", "httpcore", "httpx", "pyqwest")
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


def meaning_of(error: ConnectError, secrets: Iterable[str], method: str) -> ConnectError:
    """Return the error in a form that is safe to show: short, without credentials or details.

    Args:
        error: The Connect client's error.
        secrets: What its text must not contain.
        method: The call, as ``service/method``. The result has it as its attribute ``method``.

    Raises:
        asyncio.CancelledError: The Connect client turns it into CANCELED; the SDK would go on.
    """
    # Flyte may send a null.
    cause, text = error.__cause__, str(error.message or "")[:MAX_ERROR_CHARS]
    if isinstance(cause, asyncio.CancelledError):
        raise cause  # the same one: anyio recognises its own by their text
    meaning = error
    if error.code is Code.INTERNAL and method.endswith("/GetActionData") and TOO_LARGE.search(text):
        meaning = TooLargeError("Flyte returns inputs and outputs of at most 2 MiB")
    elif isinstance(cause, DecodeError):
        meaning = ConnectError(Code.INTERNAL, "the answer cannot be read")
    elif not isinstance(error, TooLargeError):
        meaning = ConnectError(error.code, REMOVED if quotes(text, secrets) else text)
    meaning.__cause__ = cause  # the SDK recognises a reset stream by it
    meaning.method = method  # type: ignore[attr-defined]
    return meaning


def quotes(text: str, secrets: Iterable[str]) -> bool:
    """Tell whether a text contains a secret, or a good part of one."""
    told = [secret for secret in secrets if len(secret) >= MIN_SECRET_CHARS]
    joined = "\n".join(told)
    pieces = {text[i : i + QUOTE_CHARS] for i in range(len(text) - QUOTE_CHARS + 1)}
    return any(secret in text for secret in told) or any(piece in joined for piece in pieces)


def secrets_in(credentials: Iterable[tuple[str, str]]) -> list[str]:
    """Return the secrets in headers: no scheme of Authorization, and no names of cookies."""
    secrets: list[str] = []
    for name, value in credentials:
        if name == "cookie":
            pairs = [pair.partition("=") for pair in value.split(";")]
            secrets += [(own if equals else alone).strip(' "') for alone, equals, own in pairs]
        else:
            words = value.split()
            secrets += (name == "authorization" and words[1:]) or words
    return secrets


def keep_credentials_out_of_logs() -> None:
    """Make each record of the SDK and its HTTP clients one short line without credentials.

    Filters would not do: a logger's do not apply to the records of its children.
    """
    make_record = logging.getLogRecordFactory()

    def make_safe_record(name: str | None, *args: Any) -> logging.LogRecord:
        record = make_record(name, *args)
        if str(name).partition(".")[0] in LOGGERS:
            text = record.getMessage()
            if record.exc_info:
                text = "\n".join([text, *traceback.format_exception(record.exc_info[1])])
            record.msg, record.args, record.exc_info = safe_line(text), (), None
        return record

    logging.setLogRecordFactory(make_safe_record)


def safe_line(text: str) -> str:
    """Return a text in one short line, without the caller's credentials and URLs' signatures."""
    text = text[:MAX_LINE_CHARS]
    if quotes(text, secrets_in(forwarded_credentials())):
        return REMOVED
    text = re.sub(r"(://[^\s?]*)(\?\S+)?", lambda url: url[1] + ("?…" if url[2] else ""), text)
    # Line breaks in a text of Flyte's would look like further records.
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

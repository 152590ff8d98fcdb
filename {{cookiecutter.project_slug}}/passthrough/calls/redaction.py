"""Keeping credentials out of texts: of the log, of errors, and of answers."""

import asyncio
import re
import sys
from collections.abc import Awaitable, Iterable
from typing import Any, NoReturn

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from google.protobuf.message import DecodeError

from .request_state import this_request
from .sdk import DeadlineExceededError, FlyteLimitError, TooLargeError, forwarded_credentials

REDACTED = "***"
MOST_SECRETS = 100  # of one request; nobody's credentials have more
ERROR_CHARS = 1000  # of an error's message, before it is cut off
MIN_SECRET_CHARS = 8  # shorter ones are words of other texts, too, and no credentials
SIGNED = re.compile(r"(?i)(x-(?:amz|goog)-[\w-]{1,40}=|<(?:signature|stringtosign)[^<>]*>)[^\s&<]+")
"""What a store quotes of a signed request that it refuses."""


def redact(text: str, chars: int = sys.maxsize) -> str:
    """Return up to so many ``chars`` of a text, without the caller's credentials and URLs' queries.

    The text is cut off before it is searched, because a search takes as long as the text is. The
    last characters of what was cut off are left out, too: they may be a part of a credential.
    """
    state = this_request().caller
    credentials = frozenset((*forwarded_credentials(), *state.credentials))
    if state.secrets[0] != credentials:  # an answer may have 300 texts, and this takes 5 ms
        state.secrets = credentials, secrets_in(credentials)
    if len(secrets := state.secrets[1]) > MOST_SECRETS:  # to look for each would take too long
        return REDACTED
    longest = len(secrets[0]) if secrets else 0
    begins, is_cut = text[: chars + longest], len(text) > chars + longest
    for secret in secrets:
        begins = begins.replace(secret, REDACTED)
    if is_cut:
        begins = begins[: max(0, len(begins) - longest)]
    begins = re.sub(r"(://[^\s?]*)(\?\S+)?", lambda url: url[1] + ("?…" if url[2] else ""), begins)
    return re.sub(SIGNED, rf"\1{REDACTED}", begins)[:chars]


def secrets_in(credentials: Iterable[tuple[str, str]]) -> list[str]:
    """Return the secrets in headers: no scheme of Authorization, and no names of cookies."""
    secrets = set[str]()
    for name, value in credentials:
        if name == "cookie":
            pairs = [pair.partition("=") for pair in value.split(";")]
            secrets |= {(own if equals else alone).strip(' "') for alone, equals, own in pairs}
        else:
            rest = value.strip().partition(" ")[2]
            known = rest if rest and name == "authorization" else value.strip()
            secrets |= {known, *known.split(maxsplit=MOST_SECRETS)}
    found = (secret for secret in secrets if len(secret) >= MIN_SECRET_CHARS)
    return sorted(found, key=len, reverse=True)  # one may be a part of another


async def with_safe_errors(call: Awaitable[Any], method: str) -> Any:
    """Make a call whose errors are safe to show: short, without credentials, and with its method.

    A cancellation is raised again: the Connect client turns it into an error, and the SDK would go
    on.
    """
    try:
        return await call
    except ConnectError as error:
        cause = error.__cause__  # the SDK recognises a reset stream by it
        if isinstance(cause, asyncio.CancelledError):
            _cancel_again(cause)
        if isinstance(cause, TimeoutError):
            raise DeadlineExceededError(method) from None
        raise _safe(error, method) from cause


def _cancel_again(cause: asyncio.CancelledError) -> NoReturn:
    """Raise a cancellation again, with its text, by which anyio recognises its own."""
    cancelled = asyncio.CancelledError(*cause.args)
    try:
        raise cancelled from None
    finally:
        # `raise` sets a context; replace it by one without a traceback. Without a context, anyio
        # would make a cycle, keeping all messages that the traceback refers to.
        cancelled.__context__ = cause.with_traceback(None)
        del cancelled  # this frame is in its traceback


def _safe(error: ConnectError, method: str) -> ConnectError:
    safe, text = error, redact(str(error.message or ""), ERROR_CHARS)  # may be a null
    if method.endswith("/GetActionData") and "limit exceeded." in text:  # ErrExceedsLimit
        safe = FlyteLimitError("Flyte returns inputs and outputs of at most 2 MiB")
    elif isinstance(error.__cause__, DecodeError):
        safe = ConnectError(Code.INTERNAL, "the answer cannot be read")
    elif not isinstance(error, TooLargeError):
        safe = ConnectError(error.code, text)
    safe.method = method  # type: ignore[attr-defined]
    return safe

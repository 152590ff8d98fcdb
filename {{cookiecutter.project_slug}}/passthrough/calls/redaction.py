"""Redacts credentials in texts, such as errors and log messages, and truncates error messages."""

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
MAX_SECRETS = 500  # a request with more secrets gets no texts, because a search would be slow
MAX_ERROR_CHARS = 1000  # a longer error message is truncated
MIN_SECRET_CHARS = 8  # do not redact shorter values, because they may be normal words
MIN_COOKIE_CHARS = 16  # identifiers of sessions have at least 16 characters (OWASP)
SIGNED = re.compile(r"(?i)(x-(?:amz|goog)-[\w-]{1,40}=|<(?:signature|stringtosign)[^<>]*>)[^\s&<]+")
"""Matches signatures of signed URLs. If an object store refuses a signed URL, the error may quote
the signature."""


def redact(text: str, chars: int = sys.maxsize) -> str:
    """Remove the credentials of the caller and the query strings of URLs from a text.

    The function also truncates the text to ``chars`` characters. It truncates before it searches
    for credentials, because a search in a long text would be slow. So the truncated text may end
    with a part of a credential. The function removes this part, too.
    """
    state = this_request().caller
    credentials = frozenset((*forwarded_credentials(), *state.credentials))
    if state.secrets[0] != credentials:  # the cached secrets belong to other credentials
        state.secrets = credentials, secrets_in(credentials)
    if len(secrets := state.secrets[1]) > MAX_SECRETS:
        return REDACTED
    longest = len(secrets[0]) if secrets else 0
    start, is_truncated = text[: chars + longest], len(text) > chars + longest
    for secret in secrets:
        start = start.replace(secret, REDACTED)
    if is_truncated:
        start = start[: max(0, len(start) - longest)]
    start = re.sub(r"(://[^\s?]*)(\?\S+)?", lambda url: url[1] + ("?…" if url[2] else ""), start)
    return re.sub(SIGNED, rf"\1{REDACTED}", start)[:chars]


def secrets_in(credentials: Iterable[tuple[str, str]]) -> list[str]:
    """Return the secrets in credential headers.

    Names of cookies are not secrets. The scheme in front of a token, such as ``Bearer``, is not a
    secret either.
    """
    secrets = set[str]()
    for name, value in credentials:
        if name == "cookie":
            pairs = [pair.partition("=") for pair in value.split(";")]
            cookies = {(own if equals else alone).strip(' "') for alone, equals, own in pairs}
            secrets |= {cookie for cookie in cookies if len(cookie) >= MIN_COOKIE_CHARS}
        else:
            rest = value.strip().partition(" ")[2]
            whole = rest if rest and name == "authorization" else value.strip()
            secrets |= {whole, *whole.split()}
    long_enough = (secret for secret in secrets if len(secret) >= MIN_SECRET_CHARS)
    # Return long secrets first, because a long secret may contain a shorter secret.
    return sorted(long_enough, key=len, reverse=True)


async def with_safe_errors(call: Awaitable[Any], method: str) -> Any:
    """Await a call to Flyte. Errors are short, and contain the method but no credentials.

    The Connect client converts a cancellation to a ConnectError. The SDK would handle this error
    and continue, so this function raises the cancellation again.
    """
    try:
        return await call
    except ConnectError as error:
        cause = error.__cause__  # keep the cause, by which the SDK recognises a reset stream
        if isinstance(cause, asyncio.CancelledError):
            _cancel_again(cause)
        if isinstance(cause, TimeoutError):
            raise DeadlineExceededError(method) from None
        raise _safe(error, method) from cause


def _cancel_again(cause: asyncio.CancelledError) -> NoReturn:
    """Raise a cancellation again with the same message, by which anyio recognises cancellations."""
    cancelled = asyncio.CancelledError(*cause.args)
    try:
        raise cancelled from None
    finally:
        # `raise` has set `__context__` to the ConnectError. Replace this context with `cause`
        # without a traceback. With None as the context, anyio would create a reference cycle, which
        # would keep the frames of the traceback and all their messages in memory.
        cancelled.__context__ = cause.with_traceback(None)
        del cancelled  # otherwise this frame and the traceback would be a reference cycle


def _safe(error: ConnectError, method: str) -> ConnectError:
    safe, text = error, redact(str(error.message or ""), MAX_ERROR_CHARS)  # the message may be null
    if method.endswith("/GetActionData") and "limit exceeded." in text:  # ErrExceedsLimit
        safe = FlyteLimitError("Flyte returns inputs and outputs of at most 2 MiB")
    elif isinstance(error.__cause__, DecodeError):
        safe = ConnectError(Code.INTERNAL, "the response of Flyte cannot be read")
    elif not isinstance(error, TooLargeError):
        safe = ConnectError(error.code, text)
    safe.method = method  # type: ignore[attr-defined]
    return safe

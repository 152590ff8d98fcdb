"""Which headers and cookies of a request hold its caller's credentials, according to settings."""

import logging
from pathlib import Path

from starlette.requests import HTTPConnection

from ..passthrough_auth import FastAPIPassthroughAuthMiddleware as PassthroughAuth
from ..passthrough_auth import HeaderExtractor
from ..settings import Settings


def credential_extractors(settings: Settings) -> list[HeaderExtractor]:
    """Return the functions that extract the credentials from a request.

    If ``token_header`` is set, Authorization is ignored, even in requests without that header: the
    client sets Authorization, not the proxy.
    """
    extractors: list[HeaderExtractor] = [
        PassthroughAuth.extract_cookie_header,
        *map(PassthroughAuth.extract_custom_header, settings.credential_headers),
        _handed_on(settings.token_header)
        if settings.token_header
        else PassthroughAuth.extract_authorization_header,
    ]
    if settings.flyte_plaintext:
        extractors.append(_nobody)
    return extractors


def _handed_on(token_header: str) -> HeaderExtractor:
    """Extract the bearer token that a proxy passes on."""

    def extract_handed_on_token(request: HTTPConnection) -> tuple[str, str] | None:
        values = ",".join(request.headers.getlist(token_header)).split(",")  # RFC 9110 5.3
        tokens = dict.fromkeys(token for value in values if (token := value.strip()))
        # If two tokens differ, one of them does not come from the proxy, and there is no way to
        # tell which. The line break makes a value that the middleware refuses.
        return ("authorization", "Bearer " + "\n".join(tokens)) if tokens else None

    return extract_handed_on_token


def _nobody(_: HTTPConnection) -> tuple[str, str]:
    """Admit every caller anonymously, for a Flyte that gets no credentials anyway.

    This returns a placeholder credential rather than setting ``required=False``, so that requests
    from other sites' pages are refused, as they are in an app with sign-in.
    """
    return "x-flyte-caller", "nobody"


def keep_handshakes_out_of_the_log() -> None:
    """Stop uvicorn from logging a WebSocket's headers and query, and its refusal as an error."""
    logging.getLogger("uvicorn.error").addFilter(_is_no_handshake)


def _is_no_handshake(record: logging.LogRecord) -> bool:
    """Tell whether a record is not the WebSocket library's log of what is sent and received."""
    is_fault = record.levelno > logging.INFO and "completing handshake" not in str(record.msg)
    return is_fault or "websockets" not in Path(record.pathname).parts

"""Where a request has its caller's credentials, as the settings say, and where it must not."""

import logging
from pathlib import Path

from starlette.requests import HTTPConnection

from .passthrough_auth import FastAPIPassthroughAuthMiddleware as PassthroughAuth
from .passthrough_auth import HeaderExtractor
from .settings import Settings


def credential_extractors(settings: Settings) -> list[HeaderExtractor]:
    """Return what takes the credentials out of a request.

    Where the owner has named a proxy's header, what the client itself says in Authorization is not
    looked at, whether or not the proxy's is there.
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
    """Take the bearer token that a proxy hands on."""

    def extract_handed_on_token(request: HTTPConnection) -> tuple[str, str] | None:
        values = ",".join(request.headers.getlist(token_header)).split(",")  # RFC 9110 5.3
        tokens = dict.fromkeys(token for value in values if (token := value.strip()))
        # Of two that differ one is not the proxy's. Which, nobody can tell: a line break between
        # them makes it a value that the middleware refuses.
        return ("authorization", "Bearer " + "\n".join(tokens)) if tokens else None

    return extract_handed_on_token


def _nobody(_: HTTPConnection) -> tuple[str, str]:
    """Let everybody in as nobody, where Flyte is told of no credentials anyway.

    Something that passes for a credential, rather than ``required=False``: a page of another site
    is then refused as it is where people sign in.
    """
    return "x-flyte-caller", "nobody"


def keep_handshakes_out_of_the_log() -> None:
    """Have uvicorn not log the headers of WebSockets, credentials and all, as it does at DEBUG."""
    logging.getLogger("uvicorn.error").addFilter(_is_no_transcript)


def _is_no_transcript(record: logging.LogRecord) -> bool:
    """Tell whether a record is something else than what the WebSocket library sees go by."""
    return record.levelno > logging.DEBUG or "websockets" not in Path(record.pathname).parts

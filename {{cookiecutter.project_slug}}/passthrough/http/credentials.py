"""Which headers and cookies of a request hold its caller's credentials, according to settings."""

from starlette.middleware import Middleware
from starlette.requests import HTTPConnection

from ..passthrough_auth import FastAPIPassthroughAuthMiddleware as PassthroughAuth
from ..passthrough_auth import HeaderExtractor
from ..settings import Settings
from .problems import problem_response


def passthrough_middleware(settings: Settings) -> Middleware:
    """Return the middleware that calls Flyte with each request's own credentials.

    Its refusals are problems. If ``token_header`` is set, Authorization is ignored, even in
    requests without that header: the client sets Authorization, not the proxy.
    """
    extractors: list[HeaderExtractor] = [
        PassthroughAuth.extract_cookie_header,
        *map(PassthroughAuth.extract_custom_header, settings.credential_headers),
        _handed_on(settings.token_header)
        if settings.token_header
        else PassthroughAuth.extract_authorization_header,
    ]
    if settings.flyte_plaintext:
        # Everybody is admitted, anonymously: Flyte gets no credentials anyway. This placeholder,
        # unlike ``required=False``, has requests from other sites' pages refused.
        extractors.append(lambda _: ("x-flyte-caller", "nobody"))
    return Middleware(
        PassthroughAuth,
        header_extractors=extractors,
        cookie_names=settings.cookie_names,
        trusted_origins=settings.trusted_origins,
        assume_ambient=True,  # a proxy may turn a cookie into another credential
        refusal_handler=problem_response,
    )


def _handed_on(token_header: str) -> HeaderExtractor:
    """Extract the bearer token that a proxy passes on."""

    def extract_handed_on_token(request: HTTPConnection) -> tuple[str, str] | None:
        # Of two tokens, one does not come from the proxy, and there is no way to tell which. They
        # may be in one header (RFC 9110 5.3). The line break makes the middleware refuse them.
        tokens = ",".join(request.headers.getlist(token_header)).replace(",", "\n").strip()
        return ("authorization", f"Bearer {tokens}") if tokens else None

    return extract_handed_on_token

"""Which credentials a request has: those of its caller, with which Flyte is called."""

from functools import partial

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from ..calls.sdk import act_in, initialised
from ..passthrough_auth import _SAFE_METHODS, HeaderExtractor
from ..passthrough_auth import FastAPIPassthroughAuthMiddleware as PassthroughAuth
from ..settings import Settings
from .problems import problem_response


class CallerMiddleware(PassthroughAuth):
    """Refuses requests of other sites by a safe method, too, unless the user follows a link.

    Even the time that a GET takes can tell another site something about the user.
    """

    def credentials(self, scope: Scope) -> dict[str, str]:
        """Return a request's credentials by header; raise HTTPException to refuse it."""
        credentials = super().credentials(scope)
        if credentials and scope.get("method") in _SAFE_METHODS:
            headers = dict(scope["headers"])
            # Without either header, no browser has sent the request.
            if b"sec-fetch-site" in headers or b"origin" in headers:
                is_link = headers.get(b"sec-fetch-dest") == b"document"
                if not is_link and self._is_foreign(headers):
                    raise HTTPException(403, "Cross-site request refused")
        return credentials


def _in_project_and_domain(app: ASGIApp) -> ASGIApp:
    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if query := scope["query_string"]:
            asked = QueryParams(query)
            act_in(initialised(), asked.get("project"), asked.get("domain"))
        await app(scope, receive, send)

    return serve


ProjectDomain = Middleware(_in_project_and_domain)
"""Inside the passthrough middleware: callers may name the project and domain of their calls to
Flyte, as ``?project=`` and ``?domain=`` of every endpoint. Without it they cannot."""


def passthrough_middleware(settings: Settings) -> Middleware:
    """Return the middleware that calls Flyte with each request's own credentials.

    Its refusals are problems. If ``token_header`` is set, Authorization is ignored, even in
    requests without that header: the client sets Authorization, not the proxy.
    """
    extractors: list[HeaderExtractor] = [
        PassthroughAuth.extract_cookie_header,
        *map(PassthroughAuth.extract_custom_header, settings.credential_headers),
        partial(_handed_on, settings.token_header)
        if settings.token_header
        else PassthroughAuth.extract_authorization_header,
    ]
    if settings.flyte_plaintext:
        # Everybody is admitted, anonymously: Flyte gets no credentials anyway. With this
        # placeholder, pages of other sites are refused; ``required=False`` would let them pass.
        extractors.append(lambda _: ("x-flyte-caller", "nobody"))
    return Middleware(
        CallerMiddleware,
        header_extractors=extractors,
        cookie_names=settings.cookie_names,
        trusted_origins=settings.trusted_origins,
        assume_ambient=True,  # a proxy may turn a cookie into another credential
        refusal_handler=problem_response,
    )


def _handed_on(token_header: str, request: HTTPConnection) -> tuple[str, str] | None:
    """Return the bearer token that a proxy passes on."""
    # If there are two tokens, one is not the proxy's, and nobody can tell which. So they are joined
    # by a line break, which the middleware refuses. In one header they have a comma between them
    # (RFC 9110 5.3).
    tokens = "\n".join(request.headers.getlist(token_header)).replace(",", "\n").strip()
    return ("authorization", f"Bearer {tokens}") if tokens else None

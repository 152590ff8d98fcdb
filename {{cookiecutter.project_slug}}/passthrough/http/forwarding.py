"""Configures the passthrough middleware, which forwards credentials of the caller to Flyte."""

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
    """Refuses cross-site requests even if their method is safe, such as GET.

    If another website could send a GET with the user's cookies, it could infer private data from
    the duration. If the user follows a link from another website, the middleware accepts the
    request.
    """

    def credentials(self, scope: Scope) -> dict[str, str]:
        """Return the credentials by header name. Raise an HTTPException to refuse the request."""
        credentials = super().credentials(scope)
        if credentials and scope.get("method") in _SAFE_METHODS:
            headers = dict(scope["headers"])
            # Without these headers, `_is_foreign` would return False. Do not call it then, because
            # the call takes time.
            if b"sec-fetch-site" in headers or b"origin" in headers:
                is_link = headers.get(b"sec-fetch-dest") == b"document"
                if not is_link and self._is_foreign(headers):
                    raise HTTPException(403, "Cross-site request refused")
        return credentials


def _in_project_and_domain(app: ASGIApp) -> ASGIApp:
    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if query := scope["query_string"]:
            parameters = QueryParams(query)
            act_in(initialised(), parameters.get("project"), parameters.get("domain"))
        await app(scope, receive, send)

    return serve


ProjectDomain = Middleware(_in_project_and_domain)
"""Middleware that adds the query parameters ``project`` and ``domain`` to all endpoints.

With this middleware, calls to Flyte use the project and the domain in the query of the request.
Without a value in the query, or without this middleware, calls to Flyte use the values in the
settings. List this middleware after the passthrough middleware, which must run first.

Example:
    app = App(settings, middleware=[passthrough_middleware(settings), ProjectDomain])
"""


def passthrough_middleware(settings: Settings) -> Middleware:
    """Return the middleware that lets each request call Flyte as the caller of the request.

    The middleware refuses a request without credentials with 401. It refuses ambiguous credentials
    with 400, credentials that are too large with 431, and cross-site requests (CSRF) with 403. If
    ``token_header`` is set, the middleware ignores ``Authorization``, because the client could have
    sent this header past the proxy.

    Args:
        settings: The settings of the app.

    Returns:
        The middleware for the argument ``middleware`` of `App`.

    Example:
        app = App(settings, middleware=[passthrough_middleware(settings)])
    """
    extractors: list[HeaderExtractor] = [
        PassthroughAuth.extract_cookie_header,
        *map(PassthroughAuth.extract_custom_header, settings.credential_headers),
        partial(_extract_token, settings.token_header)
        if settings.token_header
        else PassthroughAuth.extract_authorization_header,
    ]
    if settings.flyte_plaintext:
        # The SDK sends no credentials without TLS, so all callers are anonymous. The middleware
        # refuses cross-site requests (CSRF) only if they have credentials. Therefore give each
        # request a placeholder as its credential.
        extractors.append(lambda _: ("x-flyte-caller", "nobody"))
    return Middleware(
        CallerMiddleware,
        header_extractors=extractors,
        cookie_names=settings.cookie_names,
        trusted_origins=settings.trusted_origins,
        assume_ambient=True,  # a proxy may convert a cookie to a token
        refusal_handler=problem_response,
    )


def _extract_token(token_header: str, request: HTTPConnection) -> tuple[str, str] | None:
    """Return the token in the header ``token_header``, which the proxy sets."""
    # A request with two tokens must be refused, because the client may have added one of them.
    # Join two tokens with a line break, because the middleware refuses a credential that contains a
    # line break. A comma also separates two tokens (RFC 9110 5.3).
    tokens = "\n".join(request.headers.getlist(token_header)).replace(",", "\n").strip()
    return ("authorization", f"Bearer {tokens}") if tokens else None

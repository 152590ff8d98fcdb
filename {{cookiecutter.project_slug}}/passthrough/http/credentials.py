"""What is public, and which headers and cookies of other requests are the caller's credentials."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

from starlette._utils import get_route_path  # Starlette's own routing uses it
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from ..passthrough_auth import FastAPIPassthroughAuthMiddleware as PassthroughAuth
from ..passthrough_auth import HeaderExtractor
from ..settings import Settings
from .problems import problem_response

IS_PUBLIC = "passthrough.is_public"
"""The key of ASGI's scope for what the door has found out with `is_public`."""


def is_public(scope: Mapping[str, Any], public: Collection[str]) -> bool:
    """Tell whether a request needs no credentials, by its path as it is routed.

    That is without the server's prefix (``uvicorn --root-path``). ``/page/*`` in ``public`` stands
    for each path directly below ``/page/``.
    """
    path = get_route_path(scope)  # type: ignore[arg-type]
    return path in public or f"{path.rpartition('/')[0]}/*" in public


class ExceptPublic:
    """Middleware that public requests go around; the outermost is the first."""

    def __init__(self, app: ASGIApp, middleware: Sequence[Middleware]) -> None:
        self._app = self._wrapped = app
        for kind, args, options in reversed(middleware):
            self._wrapped = kind(self._wrapped, *args, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        await (self._app if scope.get(IS_PUBLIC) else self._wrapped)(scope, receive, send)


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


def _handed_on(token_header: str, request: HTTPConnection) -> tuple[str, str] | None:
    """Return the bearer token that a proxy passes on."""
    # Of two tokens, one does not come from the proxy, and there is no way to tell which. They may
    # be in one header (RFC 9110 5.3). The line break makes the middleware refuse them.
    tokens = ",".join(request.headers.getlist(token_header)).replace(",", "\n").strip()
    return ("authorization", f"Bearer {tokens}") if tokens else None

"""Identifies callers, and limits the concurrent requests of each caller (429)."""

import hashlib
import logging
import math
import secrets
from collections import Counter
from typing import Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyte import remote
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from ..calls.redaction import redact
from ..calls.request_state import RequestState, this_request
from ..calls.sdk import forwarded_credentials
from ..models import Caller
from ..settings import Settings
from .problems import CodedError, route_of

logger = logging.getLogger(__name__)

_get_user = remote.User.get  # constant, because each access to `User.get` makes a new function


async def find_caller(connection: HTTPConnection) -> Caller:  # noqa: ARG001 - public signature
    """Return the identity of the caller. The app fetches the identity once per request.

    Args:
        connection: The request. `find_caller` ignores this argument, and uses the current
            request.

    Returns:
        The caller. If Flyte does not verify tokens, the identity is empty.

    Raises:
        ConnectError: Flyte refuses the credentials (401), or fails (502, 503).

    Example:
        @router.get("/my-email")
        async def read_email(request: Request) -> str | None:
            return (await find_caller(request)).email
    """
    state = this_request()
    identity = state.caller.identity or await _fetch_caller(state.settings)
    state.caller.identity, state.caller.subject = identity, identity.subject or ""
    return identity


async def _fetch_caller(settings: Settings) -> Caller:
    links: Any = {
        "anonymous": settings.flyte_plaintext,
        "sign_in": settings.sign_in_url,
        "sign_out": settings.sign_out_url,
    }
    if settings.flyte_plaintext:
        return Caller(**links)
    try:
        user = (await _get_user.aio()).pb2
    except ConnectError as error:
        if error.code is not Code.UNAUTHENTICATED:
            raise
        # Either the credentials are invalid, or a proxy in front of an open-source Flyte has
        # verified them but does not send the identity to Flyte. Listing the projects raises
        # UNAUTHENTICATED only if the credentials are invalid.
        async for _ in remote.Project.listall.aio():
            break
        this_request().release_messages()  # the app reads the body next, which may be slow
        return Caller(**links)
    return Caller(
        subject=user.subject or None, name=user.name or None, email=user.email or None, **links
    )


class ConcurrencyLimitMiddleware:
    """Limits the number of open requests of each caller, including event streams.

    A caller is counted by the credentials that the passthrough middleware has forwarded. The limit
    protects against accidents, such as a page that opens hundreds of streams. A user with several
    tokens has several limits.

    The middleware stores hashes instead of credentials. Each start of the app makes a new secret
    key for the hashes, so that the hashes in the log do not disclose credentials.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        # Without TLS to Flyte, all callers are anonymous, so there is no limit per caller.
        limit = settings.max_concurrent_requests_per_caller
        self._app, self._max_requests = app, math.inf if settings.flyte_plaintext else limit
        self._key = secrets.token_bytes(32)
        self._open = dict[str, dict[RequestState, Scope]]()  # maps a hash to the open requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        state = this_request()
        forwarded = forwarded_credentials()
        state.caller.credentials += forwarded
        text = repr(forwarded).encode()
        caller = hashlib.blake2b(text, digest_size=6, key=self._key).hexdigest()
        state.caller.hash = caller
        if state.outer:  # only the agent's request counts
            await self._app(scope, receive, send)
            return
        open_requests = self._open.setdefault(caller, {})
        if len(open_requests) >= self._max_requests:
            _log_refusal(scope, caller, [*open_requests.values()])
            detail = f"you may have {self._max_requests} requests open: wait for one to end"
            raise CodedError(429, "too_many_requests", detail)
        open_requests[state] = scope
        try:
            await self._app(scope, receive, send)
        finally:
            del open_requests[state]
            if not open_requests:
                del self._open[caller]


def _log_refusal(scope: Scope, caller: str, open_requests: list[Scope]) -> None:
    """Log the refused request, and the routes of the caller's open requests."""
    routes = Counter(f"{request['method']} {route_of(request)}" for request in open_requests)
    logger.warning(
        "429 for %s %s of caller %s, who has %d open requests: %s",
        scope["method"],
        redact(scope["path"], 200),
        caller,
        len(open_requests),
        ", ".join(f"{count} of {route}" for route, count in routes.most_common()),
    )

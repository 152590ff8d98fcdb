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

from ..calls.redaction import redact, secrets_in
from ..calls.request_state import RequestState, this_request
from ..calls.sdk import forwarded_credentials
from ..models import Caller
from ..settings import Settings
from .problems import CodedError, route_of

logger = logging.getLogger(__name__)

OUTER_REQUEST = "passthrough.outer_request"
"""The key in the ASGI scope that marks the inner request of a tool call. The value is the state of
the agent's request to ``/mcp``. The concurrency limit counts only the agent's request."""
MAX_REMEMBERED = 10_000  # maximum number of credentials for which the app stores the subject
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

    This middleware counts the open requests of each credential that the passthrough middleware has
    selected. A credential is a token or a selected cookie. If a request has several credentials, it
    counts for each of them, so a caller cannot avoid the limit by adding another cookie. If a
    request has neither a token nor a selected cookie, this middleware counts the open requests with
    the same forwarded headers. If the app knows the subject of a credential, the request also
    counts for this subject, so several tokens of one user share a limit.

    The middleware stores hashes instead of credentials. Each start of the app makes a new secret
    key for the hashes, so that the hashes in the log do not disclose credentials. The log contains
    a subject only if all credentials of a request belong to this subject.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        # Without TLS to Flyte, all callers are anonymous, so there is no limit per caller.
        limit = settings.max_concurrent_requests_per_caller
        self._app, self._max_requests = app, math.inf if settings.flyte_plaintext else limit
        # If the app forwards all cookies, do not count by cookie, because users share some cookies.
        self._counted = {"authorization", "cookie" if settings.cookie_names is not None else ""}
        self._key = secrets.token_bytes(32)
        self._open = dict[str, dict[RequestState, Scope]]()  # maps a hash to the open requests
        self._subjects = dict[str, str]()  # maps the hash of a credential to its subject

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        state = this_request()
        forwarded = forwarded_credentials()
        state.caller.credentials += forwarded
        hashes = self._hashes(forwarded)
        subjects = {self._subjects.get(hash_, "") for hash_ in hashes}
        if len(subjects) == 1:
            (state.caller.subject,) = subjects
        callers = [*(self._hash(name, b"subject") for name in subjects if name), *hashes]
        # A request may count for several hashes. The limit and the log use the hash with the most
        # open requests. If several hashes have this number, `max` returns the hash of the subject,
        # because it comes first in the list.
        state.caller.hash = busiest = max(
            callers, key=lambda caller: len(self._open.get(caller, ()))
        )
        if OUTER_REQUEST in scope:
            state.outer = scope[OUTER_REQUEST]
            await self._app(scope, receive, send)
            return
        open_requests = self._open.get(busiest, {})
        if len(open_requests) >= self._max_requests:
            self._log_refusal(scope, [*open_requests.values()])
            detail = f"you may have {self._max_requests} requests open: wait for one to end"
            raise CodedError(429, "too_many_requests", detail)
        for caller in callers:
            self._open.setdefault(caller, {})[state] = scope
        try:
            await self._app(scope, receive, send)
        except ConnectError as error:
            if error.code is Code.UNAUTHENTICATED:  # the token has expired, or has been revoked
                state.caller.subject = ""
                for hash_ in hashes:
                    self._subjects.pop(hash_, None)
            raise
        finally:
            for caller in callers:
                del self._open[caller][state]
                if not self._open[caller]:
                    del self._open[caller]
            if state.caller.subject:
                self._remember(hashes, state.caller.subject)

    def _log_refusal(self, scope: Scope, open_requests: list[Scope]) -> None:
        """Log the refused request, and the routes of the caller's open requests."""
        caller = this_request().caller
        routes = Counter(f"{request['method']} {route_of(request)}" for request in open_requests)
        logger.warning(
            "429 for %s %s of caller %s, subject %s, who has %d open requests: %s",
            scope["method"],
            redact(scope["path"], 200),
            caller.hash,
            caller.subject or "-",
            len(open_requests),
            ", ".join(f"{count} of {route}" for route, count in routes.most_common()),
        )

    def _hashes(self, credentials: tuple[tuple[str, str], ...]) -> list[str]:
        counted = secrets_in(pair for pair in credentials if pair[0] in self._counted)
        hashes = (self._hash(_shortened(text)) for text in counted or [repr(credentials)])
        return list(dict.fromkeys(hashes))  # a request may contain two spellings of one token

    def _hash(self, text: str, kind: bytes = b"") -> str:
        digest = hashlib.blake2b(text.encode(), digest_size=6, key=self._key, person=kind)
        return digest.hexdigest()

    def _remember(self, hashes: list[str], subject: str) -> None:
        """Store the subject of credentials, to count and log later requests by the subject."""
        for hash_ in hashes:
            self._subjects.pop(hash_, None)  # move `hash_` to the end of the dictionary
            self._subjects[hash_] = subject
        while len(self._subjects) > MAX_REMEMBERED:
            del self._subjects[next(iter(self._subjects))]


def _shortened(token: str) -> str:
    """Return a JWT without its last character, for which base64url allows up to 16 variants.

    The returned text contains the rest of the signature, because the header and the payload of a
    JWT are not secret. Otherwise another caller who knows them could use up the limit of the user.
    If ``token`` is not a JWT, the function returns ``token`` unchanged.
    """
    return token[:-1] if token.count(".") == 2 else token

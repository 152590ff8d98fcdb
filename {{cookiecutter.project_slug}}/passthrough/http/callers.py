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

IS_INNER = "passthrough.is_inner"
"""A key in the ASGI scope of tool calls. The message of the agent counts, not the tool call."""
MAX_REMEMBERED = 10_000  # credentials with a known subject
_get_user = remote.User.get  # looked up once, because the SDK builds it on each access


async def find_caller(connection: HTTPConnection) -> Caller:  # noqa: ARG001 - public signature
    """Return the identity of the caller. Only the first call in a request calls Flyte.

    Args:
        connection: The request. It is unused, because the current request is known.

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
        # The credentials are invalid, or a proxy in front of an open-source Flyte has verified them
        # but does not send the identity to Flyte. In the second case, other calls succeed.
        async for _ in remote.Project.listall.aio():
            break
        return Caller(**links)
    return Caller(
        subject=user.subject or None, name=user.name or None, email=user.email or None, **links
    )


class ConcurrencyLimitMiddleware:
    """Limits the open requests of one caller, including event streams.

    This middleware is inside the passthrough middleware, which has selected the credentials. A
    request counts for each token and each selected cookie, so that another cookie does not avoid
    the limit. If a request has neither, it counts for the combination of all its forwarded headers.
    If the subject of one of the credentials is known, the request also counts for the subject, so
    that a user with several tokens is one caller.

    The keys of the counts are hashes, with a secret that is new at each start, so that the log does
    not disclose credentials. The log has a subject only if all credentials of a request belong to
    this subject.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        # Without TLS to Flyte, all callers are anonymous, so there is no limit per caller.
        limit = settings.max_concurrent_requests_per_caller
        self._app, self._max_requests = app, math.inf if settings.flyte_plaintext else limit
        # If all cookies are forwarded, some cookies have the same value for many users.
        self._counted = {"authorization", "cookie" if settings.cookie_names is not None else ""}
        self._key = secrets.token_bytes(32)
        self._open = dict[str, dict[RequestState, Scope]]()  # open requests by hash
        self._subjects = dict[str, str]()  # by the hashes of credentials

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        state = this_request()
        # An Authorization header is secret even if it is not forwarded (`token_header`).
        tokens = (value for name, value in scope["headers"] if name == b"authorization")
        forwarded = forwarded_credentials()
        more = [("authorization", value.decode("latin-1")) for value in tokens]
        state.caller.credentials = (*forwarded, *more)
        hashes = self._hashes(forwarded)
        subjects = {self._subjects.get(hash_, "") for hash_ in hashes}
        if len(subjects) == 1:
            (state.caller.subject,) = subjects
        callers = [*(self._hash(name, b"subject") for name in subjects if name), *hashes]
        # The highest count decides, and its hash is logged; if counts are equal, the subject.
        state.caller.hash = busiest = max(
            callers, key=lambda caller: len(self._open.get(caller, ()))
        )
        if IS_INNER in scope:
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
        finally:
            for caller in callers:
                del self._open[caller][state]
                if not self._open[caller]:
                    del self._open[caller]
            if state.caller.subject:
                self._remember(hashes, state.caller.subject)

    def _log_refusal(self, scope: Scope, open_requests: list[Scope]) -> None:
        """Log the routes of the open requests of the caller."""
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
        hashes = (self._hash(_without_spelling(text)) for text in counted or [repr(credentials)])
        return list(dict.fromkeys(hashes))  # a request may have two spellings of one token

    def _hash(self, text: str, kind: bytes = b"") -> str:
        digest = hashlib.blake2b(text.encode(), digest_size=6, key=self._key, person=kind)
        return digest.hexdigest()

    def _remember(self, hashes: list[str], subject: str) -> None:
        """Remember the subject of credentials. It is used only to count requests."""
        for hash_ in hashes:
            self._subjects.pop(hash_, None)  # so that it is the newest entry
            self._subjects[hash_] = subject
        while len(self._subjects) > MAX_REMEMBERED:
            del self._subjects[next(iter(self._subjects))]


def _without_spelling(token: str) -> str:
    """Return a JWT without the last character, which base64url can spell in 16 ways.

    The rest of the signature stays in the text that is hashed. Otherwise a caller who knows the
    public parts of the JWT of a user could exhaust the limit of this user. Other texts are returned
    unchanged.
    """
    return token[:-1] if token.count(".") == 2 else token

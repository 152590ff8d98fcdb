"""Who the caller is, and the limit of concurrent requests per caller (429)."""

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
"""The key of ASGI's scope that is set in a tool call's request: its agent's message is counted."""
MAX_REMEMBERED = 10_000  # credentials whose subject is known
_user = remote.User.get  # once: the SDK makes it anew whenever it is looked up


async def find_caller(_: HTTPConnection) -> Caller:
    """Ask Flyte who the caller is, once in a request; it refuses invalid credentials."""
    state = this_request()
    identity = state.caller.identity or await _ask_for_caller(state.settings)
    state.caller.identity, state.caller.subject = identity, identity.subject or ""
    return identity


async def _ask_for_caller(settings: Settings) -> Caller:
    known: Any = {
        "anonymous": settings.flyte_plaintext,
        "sign_in": settings.sign_in_url,
        "sign_out": settings.sign_out_url,
    }
    if settings.flyte_plaintext:
        return Caller(**known)
    try:
        user = (await _user.aio()).pb2
    except ConnectError as error:
        if error.code is not Code.UNAUTHENTICATED:
            raise
        # The credentials are invalid, or a proxy in front of an open-source Flyte has checked them
        # without passing on whose they are: then other calls succeed.
        async for _ in remote.Project.listall.aio():
            break
        return Caller(**known)
    return Caller(
        subject=user.subject or None, name=user.name or None, email=user.email or None, **known
    )


class ConcurrencyLimitMiddleware:
    """Limits the requests that one caller may have open at the same time, streams included.

    It stands inside the passthrough middleware, which has chosen the credentials. A request counts
    for each of its tokens and chosen cookies, so another cookie gives no second allowance; without
    any, for all that is forwarded. It also counts for its user if Flyte has told the subject for
    one of these credentials, so a user with several tokens is one caller.

    Counts are kept by hashes, with a key that is new at each start: nobody can find credentials by
    them. The signature of a JWT is not hashed, because base64url can spell it in 16 ways.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        # Without TLS to Flyte nobody has credentials, so all callers are one: there is no limit.
        most = math.inf if settings.flyte_plaintext else settings.max_concurrent_requests_per_caller
        self._app, self._most = app, most
        # If all cookies are forwarded, many users have the same values of some.
        self._counted = {"authorization", "cookie" if settings.cookie_names is not None else ""}
        self._key = secrets.token_bytes(32)
        self._open = Counter[str]()
        self._requests = dict[RequestState, tuple[Scope, list[str]]]()
        self._subjects = dict[str, str]()  # by the hashes of credentials

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        state = this_request()
        # An Authorization that is not forwarded (`token_header`) is secret, too.
        sent = (value for name, value in scope["headers"] if name == b"authorization")
        forwarded = forwarded_credentials()
        more = [("authorization", value.decode("latin-1")) for value in sent]
        state.caller.credentials = (*forwarded, *more)
        hashes = self._hashes(forwarded)
        callers = hashes
        for subject in {self._subjects[each] for each in hashes if each in self._subjects}:
            state.caller.subject = subject
            callers = [self._hash(subject, b"subject"), *callers]
        # The highest count decides, and its hash is logged: if counts are equal, the subject's.
        state.caller.hash = fullest = max(callers, key=self._open.__getitem__)
        if IS_INNER in scope:
            await self._app(scope, receive, send)
            return
        if self._open[fullest] >= self._most:
            self._log_refusal(scope, fullest)
            detail = f"you may have {self._most} requests open: wait for one to end"
            raise CodedError(429, "too_many_requests", detail)
        for caller in callers:
            self._open[caller] += 1
        self._requests[state] = scope, callers
        try:
            await self._app(scope, receive, send)
        finally:
            del self._requests[state]
            for caller in callers:
                self._open[caller] -= 1
                if not self._open[caller]:
                    del self._open[caller]
            if state.caller.subject:
                self._remember(hashes, state.caller.subject)

    def _log_refusal(self, scope: Scope, caller: str) -> None:
        """Log which requests the caller has open, by their routes."""
        opened = [scope for scope, callers in self._requests.values() if caller in callers]
        routes = Counter(f"{each['method']} {route_of(each)}" for each in opened)
        logger.warning(
            "429 for %s %s of caller %s, subject %s, who has %d open requests: %s",
            scope["method"],
            redact(scope["path"], 200),
            caller,
            this_request().caller.subject or "-",
            len(opened),
            ", ".join(f"{count} of {route}" for route, count in routes.most_common()),
        )

    def _hashes(self, credentials: tuple[tuple[str, str], ...]) -> list[str]:
        counted = secrets_in(pair for pair in credentials if pair[0] in self._counted)
        return [self._hash(_unsigned(secret)) for secret in counted or [repr(credentials)]]

    def _hash(self, text: str, kind: bytes = b"") -> str:
        hashed = hashlib.blake2b(text.encode(), digest_size=6, key=self._key, person=kind)
        return hashed.hexdigest()

    def _remember(self, hashes: list[str], subject: str) -> None:
        """Remember whose credentials these are, to count requests. It authorizes nothing."""
        for each in hashes:
            self._subjects.pop(each, None)
            self._subjects[each] = subject
        while len(self._subjects) > MAX_REMEMBERED:
            del self._subjects[next(iter(self._subjects))]


def _unsigned(token: str) -> str:
    """Return a JWT without its signature, and any other text as it is."""
    unsigned, _, _ = token.rpartition(".")
    return unsigned if unsigned.count(".") == 1 else token

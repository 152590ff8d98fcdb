"""Who the caller is, and how many requests one may have open at once."""

import hashlib
import math
import secrets
from collections import Counter
from typing import Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyte import remote
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from ..calls.redaction import secrets_in
from ..calls.request_state import this_request
from ..calls.sdk import forwarded_credentials
from ..models import Caller
from ..settings import Settings

IS_INNER = "passthrough.is_inner"
"""The key of ASGI's scope that is set in a tool call's request: its agent's message is counted."""
_user = remote.User.get  # once: the SDK makes it anew whenever it is looked up


async def find_caller(_: HTTPConnection) -> Caller:
    """Ask Flyte who the caller is, once in a request; it refuses invalid credentials."""
    state = this_request()
    state.caller = state.caller or await _ask_for_caller(state.settings)
    return state.caller


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
    """Middleware that refuses a caller who has too many requests open, streams included.

    It stands inside the passthrough middleware, which has chosen the credentials. A caller is a
    hash of a secret, with a key that is new at each start: nobody can find credentials by it.

    A request counts for each of its tokens and chosen cookies, so another cookie gives no second
    allowance. Without any, its caller is known by all that is forwarded.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        # In plaintext nobody has credentials, so all callers are one: then there is no limit.
        most = math.inf if settings.flyte_plaintext else settings.max_concurrent_requests_per_caller
        self._app, self._most = app, most
        # If all cookies are forwarded, some are no secrets, and many people have them.
        self._counted = {"authorization", "cookie" if settings.cookie_names is not None else ""}
        self._key = secrets.token_bytes(32)
        self._open = Counter[str]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        state = this_request()
        # An Authorization that is not forwarded (`token_header`) is secret, too.
        sent = (value for name, value in scope["headers"] if name == b"authorization")
        forwarded = forwarded_credentials()
        more = [("authorization", value.decode("latin-1")) for value in sent]
        state.credentials = (*forwarded, *more)
        callers = self._callers(forwarded)
        # The highest count decides; its hash is logged.
        state.caller_hash = fullest = max(callers, key=self._open.__getitem__)
        if IS_INNER in scope:
            await self._app(scope, receive, send)
            return
        if self._open[fullest] >= self._most:
            detail = f"you may have {self._most} requests open: wait for one to end"
            raise HTTPException(429, detail, {"Retry-After": "5"})
        for caller in callers:
            self._open[caller] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            for caller in callers:
                self._open[caller] -= 1
                if not self._open[caller]:
                    del self._open[caller]

    def _callers(self, credentials: tuple[tuple[str, str], ...]) -> list[str]:
        counted = secrets_in(pair for pair in credentials if pair[0] in self._counted)
        return [
            hashlib.blake2b(secret.encode(), digest_size=6, key=self._key).hexdigest()
            for secret in counted or [repr(credentials)]
        ]

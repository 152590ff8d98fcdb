"""How many requests one caller may have open: beyond, the answer is 429."""

import hashlib
import math
import secrets
from collections import Counter

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from ..calls.caller import forwarded_credentials
from ..calls.redaction import secrets_in
from ..calls.request_calls import request_calls
from ..settings import Settings

OF_ONE_PERSON = ("authorization", "cookie")
IS_PART = "passthrough.is_part"
"""The key of ASGI's scope for a request that is a part of another one, which is counted."""


class OpenRequests:
    """Middleware that refuses a caller who has too many requests open, streams included.

    It stands inside the passthrough middleware, which has chosen the credentials. A request counts
    for each secret in them, so that further cookies make no other caller of a person. Headers that
    are not ``Authorization`` or ``Cookie`` count only alone: many people may share their value.

    A caller is a hash with a key that is new at each start: nobody can find credentials by it. A
    person with several tokens counts as several callers.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        """Wrap an application."""
        # Without credentials of their own, all callers are one, who may have all requests open.
        most = math.inf if settings.flyte_plaintext else settings.open_requests_per_caller
        self._app, self._most = app, most
        self._cookies_are_chosen = settings.cookie_names is not None  # others may not be secret
        self._key = secrets.token_bytes(32)
        self._open = Counter[str]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope, or raise an HTTPException."""
        sender = request_calls().sender
        sender.credentials = forwarded_credentials()
        if not sender.credentials:  # a preflight, which has none
            await self._app(scope, receive, send)
            return
        callers = [*map(self._hash, self._secrets(dict(sender.credentials)))]
        sender.short_hash = max(callers, key=self._open.__getitem__)
        if self._open[sender.short_hash] >= self._most and IS_PART not in scope:
            detail = f"you have {self._most} requests open: wait for one to end"
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

    def _secrets(self, credentials: dict[str, str]) -> list[str]:
        own = [(name, credentials[name]) for name in OF_ONE_PERSON if name in credentials]
        if own and self._cookies_are_chosen:
            return secrets_in(own) or [repr(own)]
        return [repr(own or sorted(credentials.items()))]

    def _hash(self, secret: str) -> str:
        return hashlib.blake2b(secret.encode(), digest_size=6, key=self._key).hexdigest()

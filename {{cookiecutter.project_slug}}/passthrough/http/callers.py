"""How much one caller may have open at once."""

import hashlib
import secrets
from collections import Counter

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from ..calls.caller import forwarded_credentials
from ..calls.request_calls import request_calls

RETRY_AFTER = 5  # seconds
IS_COUNTED = "passthrough.is_counted"
"""The key of ASGI's scope for a request that is a part of another one, which is counted."""


class OpenRequests:
    """Middleware that refuses a caller who has too many requests open, streams included.

    It stands inside the passthrough middleware, which has chosen the credentials. A caller is a
    hash of them, with a key that is new at each start: nobody can find credentials by it. A person
    with several tokens counts as several callers.
    """

    def __init__(self, app: ASGIApp, most: float) -> None:
        """Wrap an application; ``most`` is how many requests a caller may have open at once."""
        self._app, self._most = app, most
        self._key = secrets.token_bytes(32)
        self._open = Counter[str]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope.

        Raises:
            HTTPException: The caller has too many requests open.
        """
        sender = request_calls().sender
        sender.credentials = forwarded_credentials()
        if not sender.credentials:  # a preflight, which has none
            await self._app(scope, receive, send)
            return
        text = repr(sorted(sender.credentials)).encode()
        caller = hashlib.blake2b(text, digest_size=6, key=self._key).hexdigest()
        sender.short_hash = caller
        if self._open[caller] >= self._most and IS_COUNTED not in scope:
            raise HTTPException(
                429,
                f"you have {self._most} requests open: wait for one to end",
                {"Retry-After": str(RETRY_AFTER)},
            )
        self._open[caller] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._open[caller] -= 1
            if not self._open[caller]:
                del self._open[caller]

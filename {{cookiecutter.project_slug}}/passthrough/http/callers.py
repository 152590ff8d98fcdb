"""What one caller may take: requests that are open at once (429), and large bodies in turn."""

import asyncio
import hashlib
import math
import secrets
from collections import Counter
from contextlib import ExitStack

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..calls.redaction import secrets_in
from ..calls.request_state import Turns, this_request
from ..calls.sdk import forwarded_credentials
from ..settings import Settings

IS_INNER = "passthrough.is_inner"
"""The key of ASGI's scope for a request that an agent's message makes inside the app."""
LARGE = 64 * 1024  # bytes of a body
AT_ONCE = 2  # large bodies
TURN_SECONDS = 1.0  # then the next one is parsed, although Flyte has not answered for this one


class OpenRequests:
    """Middleware that refuses a caller who has too many requests open, streams included.

    It stands inside the passthrough middleware, which has chosen the credentials. A request counts
    for each of its secrets, so adding a cookie gives no second allowance. Headers that are not
    ``Authorization`` or ``Cookie`` count only without those: many people may share one. A caller is
    a hash with a key that is new at each start: nobody can find credentials by it.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        # Without credentials of their own, all callers are one, who may have all requests open.
        most = math.inf if settings.flyte_plaintext else settings.open_requests_per_caller
        self._app, self._most = app, most
        self._cookies_are_chosen = settings.cookie_names is not None  # others may not be secret
        self._key = secrets.token_bytes(32)
        self._open = Counter[str]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        sender = this_request().sender
        sender.credentials = forwarded_credentials()
        callers = self._callers(sender.credentials)
        # The fullest of its counts decides, and is logged.
        sender.short_hash = max(callers, key=self._open.__getitem__)
        if IS_INNER in scope:  # not counted again
            await self._app(scope, receive, send)
            return
        if self._open[sender.short_hash] >= self._most:
            detail = f"you have {self._most} requests open: wait for one to end"
            raise HTTPException(429, detail, {"Retry-After": "5"})
        self._open.update(callers)
        try:
            await self._app(scope, receive, send)
        finally:
            self._open -= Counter(callers)  # it keeps no zeros

    def _callers(self, credentials: tuple[tuple[str, str], ...]) -> list[str]:
        own = [pair for pair in credentials if pair[0] in ("authorization", "cookie")]
        counted = secrets_in(own) if self._cookies_are_chosen else []
        return [
            hashlib.blake2b(secret.encode(), digest_size=6, key=self._key).hexdigest()
            for secret in counted or [repr(own or credentials)]
        ]


class LargeBodies:
    """Middleware that lets in two large JSON bodies at a time.

    FastAPI parses a body before it asks Flyte who sent it: a megabyte of small values takes 20 MB
    and 50 ms. A body is read after routing, up to its route's ``max_body_size``. A turn ends with
    the response, or after a second.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._turns = Turns()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        sent = Headers(raw=scope.get("headers", ()))
        if "json" not in sent.get("content-type", "").lower():
            await self._app(scope, receive, send)
            return

        async def receive_whole() -> Message:
            message = await _whole_body(receive)
            # The agent's message, which has this body in it, has waited already.
            if len(message.get("body", b"")) > LARGE and IS_INNER not in scope:
                end_turn = await self._turns.begin(AT_ONCE, this_request().sender.short_hash)
                after.callback(end_turn)
                asyncio.get_running_loop().call_later(TURN_SECONDS, end_turn)
            return message

        with ExitStack() as after:
            await self._app(scope, receive_whole, send)


async def _whole_body(receive: Receive) -> Message:
    """Return a request's body as one message, or the message that its client has left."""
    parts, message = bytearray(), await receive()
    while message.get("more_body"):
        parts += message.get("body", b"")
        message = await receive()
    if message["type"] != "http.request":
        return message
    return {"type": "http.request", "body": bytes(parts) + message.get("body", b"")}

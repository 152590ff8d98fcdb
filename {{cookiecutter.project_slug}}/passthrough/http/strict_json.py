"""Which JSON is refused although Python reads it: what readers take for different values (422)."""

import json
import math
from collections import Counter
from contextlib import suppress
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .callers import OUTER_TURN


class StrictJson:
    """Middleware that refuses a JSON body with one key twice, or with a number that is none."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        parts: list[bytes] = []

        async def receive_checked() -> Message:
            message = await receive()
            if "json" in Headers(raw=scope["headers"]).get("content-type", "").lower():
                parts.append(message.get("body", b""))
                if not message.get("more_body"):
                    _check(b"".join(parts))
                    parts.clear()
            return message

        # An agent's message has been checked, with the bodies of its requests.
        has_body = scope["type"] == "http" and OUTER_TURN not in scope
        await self._app(scope, receive_checked if has_body else receive, send)


def _check(body: bytes) -> None:
    with suppress(ValueError, RecursionError):  # FastAPI answers what is no JSON
        json.loads(body, object_pairs_hook=_once, parse_float=_finite, parse_constant=_finite)


def _once(pairs: list[tuple[str, Any]]) -> None:
    """Refuse an object of which some readers take the first value of a key, and others the last."""
    if len(dict(pairs)) < len(pairs):
        ((key, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise HTTPException(422, f"an object in the JSON has the key {key!r} twice")


def _finite(number: str) -> None:
    """Refuse NaN and the infinities, which JSON does not have, and 1e400, which becomes one."""
    if not math.isfinite(float(number)):
        raise HTTPException(422, f'{number} is no number: write "Infinity", "-Infinity" or "NaN"')

"""One log line per request, with an identifier that also appears in Flyte's own log."""

import json
import logging
import re
import sys
import time
import uuid
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import quote

from opentelemetry import trace
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("app.access")

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class AccessLogMiddleware:
    """Logs each request when it ends, without its query, headers or credentials.

    A request keeps its ``X-Request-ID``, or gets one. It is added to the response, to each call to
    Flyte, and to the request's span if requests are traced.
    """

    def __init__(self, app: ASGIApp, form: Literal["text", "json", "off"]) -> None:
        self.app, self.form = app, form
        if form != "off" and not logger.hasHandlers():  # keep the owner's handlers
            logger.addHandler(logging.StreamHandler(sys.stdout))
            logger.setLevel(logging.INFO)
            logger.propagate = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else str(uuid.uuid4())
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        trace.get_current_span().set_attribute("request_id", request_id)
        began, status = time.perf_counter(), 0

        async def noting_send(message: Message) -> None:
            nonlocal status
            if message["type"].endswith("http.response.start"):
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            elif message["type"] == "websocket.accept":
                status = 101
            await send(message)

        try:
            await self.app(scope, receive, noting_send)
        finally:
            if self.form != "off":
                self._log(scope, status, time.perf_counter() - began)

    def _log(self, scope: Scope, status: int, seconds: float) -> None:
        state, route = scope["state"], scope.get("route")
        calls = state.get("calls")
        line: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "method": scope.get("method", "WEBSOCKET"),
            "route": getattr(route, "path", None) or "-",
            "status": status,
            "ms": round(1000 * seconds, 1),
            "flyte_ms": round(1000 * calls.seconds, 1) if calls else 0,
            "request_id": state["request_id"],
            "subject": quote((calls and calls.subject) or "-", safe="@:|"),
        }
        text = json.dumps(line) if self.form == "json" else " ".join(map(str, line.values()))
        logger.info(text)

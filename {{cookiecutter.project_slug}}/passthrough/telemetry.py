"""What OpenTelemetry gets to know of a request.

FastAPI makes a span and metrics of each, once there is something to send them to. It would tell
the path, the query and the Host header, and what exceptions say. Here it sees as much as the
access log has: names of runs, and what a client has put where it does not belong, stay here.
"""

from fastapi.telemetry import TelemetryConfig
from starlette.types import ASGIApp, Receive, Scope, Send

TELEMETRY: TelemetryConfig = {
    "auto_configure": True,  # where OTEL_EXPORTER_OTLP_ENDPOINT is set
    "logs": False,  # of exceptions: problems.py logs them, without credentials
    "operation_spans": False,  # of FastAPI's own steps
}


def covered(scope: Scope) -> Scope:
    """Return a request as FastAPI's telemetry may see it; `UncoverMiddleware` shows all of it."""
    if scope["type"] not in ("http", "websocket"):
        return scope
    # What else a client says of a trace (tracestate, baggage) can be any text.
    headers = [header for header in scope["headers"] if header[0] == b"traceparent"]
    seen = {"path": "", "query_string": b"", "headers": headers}
    hidden = {name: scope[name] for name in seen}
    return {**scope, **seen, "passthrough.covered": hidden}


class UncoverMiddleware:
    """Serves the request as it came."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        scope.update(scope.pop("passthrough.covered", {}))
        await self.app(scope, receive, send)

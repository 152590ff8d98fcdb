"""What OpenTelemetry records about a request.

FastAPI makes a span and metrics for each request once an exporter is configured. By default they
include the path, the query, the Host header and the texts of exceptions. Here they hold no more
than the access log, so names of runs and misplaced credentials are not exported.
"""

from fastapi.telemetry import TelemetryConfig
from starlette.types import ASGIApp, Receive, Scope, Send

TELEMETRY: TelemetryConfig = {
    "auto_configure": True,  # if OTEL_EXPORTER_OTLP_ENDPOINT is set
    "logs": False,  # problems.py logs exceptions, without credentials
    "operation_spans": False,  # FastAPI's own steps
}


def covered(scope: Scope) -> Scope:
    """Hide from FastAPI's telemetry what it must not see; `UncoverMiddleware` restores it."""
    if scope["type"] not in ("http", "websocket"):
        return scope
    # A client's other trace headers (tracestate, baggage) can hold any text.
    headers = [header for header in scope["headers"] if header[0] == b"traceparent"]
    seen = {"path": "", "query_string": b"", "headers": headers}
    hidden = {name: scope[name] for name in seen}
    return {**scope, **seen, "passthrough.covered": hidden}


class UncoverMiddleware:
    """Restores the request as it arrived."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        scope.update(scope.pop("passthrough.covered", {}))
        await self.app(scope, receive, send)

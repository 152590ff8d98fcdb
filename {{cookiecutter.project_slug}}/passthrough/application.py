"""The app class, and what it adds to the OpenAPI document.

Any route may be refused by the middleware for lack of credentials, and any call to Flyte may fail.
FastAPI does not know that, so it is described here, once, for all routes.
"""

import gc
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute
from starlette.types import Message, Receive, Scope, Send

from .requests import public as public_routes
from .requests.credentials import keep_handshakes_out_of_the_log
from .requests.door import COVERED, Door
from .requests.problems import Problem, documented, respond
from .settings import Settings

BEARER = {"type": "http", "scheme": "bearer", "description": "A Flyte access token."}
COOKIE = {
    "type": "apiKey",
    "in": "cookie",
    "name": "flyte_at",
    "description": "Flyte's sign-in cookie; the browser of a signed-in user sends it.",
}

TELEMETRY: TelemetryConfig = {
    "auto_configure": True,  # if OTEL_EXPORTER_OTLP_ENDPOINT is set
    "logs": False,  # problems.py logs exceptions, without credentials
    "operation_spans": False,  # FastAPI's own steps
}

ROUTE_OPTIONS = [*inspect.signature(APIRoute).parameters]

ANYWHERE = (413, 431, 500)
WITH_CREDENTIALS = (400, 401, 403, 404, 408, 409, 422, 429, 501, 502, 503, 504)
"""Flyte may answer any call with any of Connect's error codes, and endpoints pass them on."""


def security_schemes(settings: Settings) -> dict[str, dict[str, str]]:
    """Return the ways to authenticate, by name; any one of them is enough."""
    return {"bearer": BEARER, "cookie": COOKIE} | {
        name: {"type": "apiKey", "in": "header", "name": name, "description": "A credential."}
        for name in settings.credential_headers
    }


class App(FastAPI):
    """A FastAPI app with documentation, probes and problem responses. Flyte can pickle it.

    Its OpenAPI document lists every response that the app may return.
    """

    def __init__(
        self,
        settings: Settings,
        public: set[str],
        middleware: Sequence[Middleware],
        **options: Any,
    ) -> None:
        """Build an app.

        Args:
            settings: The app's configuration.
            public: Paths that need no credentials.
            middleware: Further middleware, inside the app's own; the outermost first.
            options: Passed on to FastAPI.
        """
        super().__init__(
            generate_unique_id_function=lambda route: route.name,
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,  # a redirect would contain the client's Host header
            middleware=[Middleware(Door, settings=settings, public=public), *middleware],
            telemetry=TELEMETRY,
            exception_handlers={HTTPException: respond, RequestValidationError: respond},
            **options,
        )
        self.settings, self.public = settings, public
        self.challenges: dict[str, Callable[[HTTPConnection], str]] = {}
        """Values of WWW-Authenticate in a 401, other than ``Bearer``, by the path."""
        # Not included: matching a path against an included router takes several times as long.
        self.router.routes += public_routes.router.routes
        keep_handshakes_out_of_the_log()
        self.build_middleware_stack()  # so that wrong options of a middleware fail at start-up

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            self.router.routes[:] = _flat(self.router.routes)
            send = _frozen_when_started(send)
        await super().__call__(_covered(scope), receive, send)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by name, so that ``flyte deploy`` can hash the app: routers hold locks."""
        return pkgutil.resolve_name, ("app.main:app",)

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        document = super().openapi()
        components = document.setdefault("components", {})
        if "securitySchemes" not in components:  # FastAPI has just built the document
            components["securitySchemes"] = security_schemes(self.settings)
            _add_problem(components.setdefault("schemas", {}))
            for path, operations in document["paths"].items():
                for operation in operations.values():
                    self._complete(operation, path not in self.public)
        return document

    def _complete(self, operation: dict[str, Any], guarded: bool) -> None:
        statuses = list(ANYWHERE)
        if guarded:
            schemes = security_schemes(self.settings)
            operation["security"] = [{name: []} for name in schemes]
            if self.settings.flyte_plaintext:
                operation["security"].append({})  # no credentials reach Flyte anyway
            statuses += WITH_CREDENTIALS
        responses = operation["responses"]
        if "422" in responses:  # FastAPI's own, in a format that this app does not use
            statuses.append(422)
            del responses["422"]
        told = {str(status): response for status, response in documented(*statuses).items()}
        operation["responses"] = dict(sorted((told | responses).items()))
        for response in responses.values():
            if events := response.get("content", {}).get("text/event-stream"):
                events.clear()  # OpenAPI before 3.2 cannot describe the events of a stream


def _flat(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """Yield the routes, with those of included routers as routes of the app itself.

    FastAPI asks one included router after the other, at several times the cost. A router with
    anything but endpoints for HTTP stays as it is.
    """
    for route in routes:
        contexts = [*iter_route_contexts([route])]
        own = [type(context.original_route) for context in contexts]
        if len(contexts) == 1 and contexts[0].original_route is route:
            yield route
        elif all(issubclass(kind, APIRoute) for kind in own):
            for context in contexts:
                yield _copy_of(context)
        else:
            yield route


def _copy_of(context: RouteContext) -> BaseRoute:
    """Make the route that an included one amounts to, of its own class."""
    original: Any = context.original_route
    options = {name: getattr(context, name) for name in ROUTE_OPTIONS if hasattr(context, name)}
    options["form_limits"] = original.form_limits
    if context.stream_item_type:  # which the constructor takes from the endpoint
        del options["response_model"]
    made: BaseRoute = type(original)(**options)
    return made


def _frozen_when_started(send: Send) -> Send:
    """Take what exists at the start out of garbage collections, which then take less time."""

    async def freezing_send(message: Message) -> None:
        if message["type"] == "lifespan.startup.complete":
            gc.freeze()
        await send(message)

    return freezing_send


def _covered(scope: Scope) -> Scope:
    """Hide from FastAPI's telemetry what it must not see; the door restores it.

    Spans and metrics hold no more than the access log, so names of runs and misplaced credentials
    are not exported.
    """
    if scope["type"] not in ("http", "websocket"):
        return scope
    # A client's other trace headers (tracestate, baggage) can hold any text.
    headers = [header for header in scope["headers"] if header[0] == b"traceparent"]
    seen = {"path": "", "query_string": b"", "headers": headers}
    return {**scope, **seen, COVERED: {name: scope[name] for name in seen}}


def _add_problem(schemas: dict[str, Any]) -> None:
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= {**problem.pop("$defs"), "Problem": problem}
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)

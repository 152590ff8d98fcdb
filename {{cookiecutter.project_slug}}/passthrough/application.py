"""The app class, and what it adds to the OpenAPI document.

The middleware may refuse any request, and any call to Flyte may fail. FastAPI does not know that,
so it is described here, once, for all routes.
"""

import pkgutil
from collections.abc import Callable, Sequence
from copy import copy
from itertools import chain
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute, APIRouter, RouteContext, iter_route_contexts
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from .calls.errors import StartError
from .requests import public as public_routes
from .requests.door import COVERED, Door
from .requests.operations import operations_by_id
from .requests.problems import Problem, respond
from .requests.serving import keep_handshakes_out_of_the_log
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

SCHEMAS = "#/components/schemas/"
PROBLEM: dict[str, Any] = {
    "description": "A problem (RFC 9457)",
    "content": {"application/problem+json": {"schema": {"$ref": f"{SCHEMAS}Problem"}}},
}
"""Any response with another status than an operation lists."""


class App(FastAPI):
    """A FastAPI app with documentation, probes and problem responses. Flyte can pickle it."""

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
            responses={"default": PROBLEM},
            **options,
        )
        self.settings, self.public = settings, public
        self.challenges: dict[str, Callable[[HTTPConnection], str]] = {}
        """Values of WWW-Authenticate in a 401, other than ``Bearer``, by the path."""
        self.include_router(public_routes.router)
        keep_handshakes_out_of_the_log()
        self.build_middleware_stack()  # so that wrong options of a middleware fail at start-up

    def add_middleware(self, middleware_class: Any, *args: Any, **options: Any) -> None:
        """Add middleware inside the door: around it there is no path yet, and no problem."""
        super().add_middleware(middleware_class, *args, **options)
        middleware: list[Any] = self.user_middleware
        middleware.sort(key=lambda each: each.cls is not Door)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            try:
                operations_by_id(self.routes)  # of two with one name, one would be in no document
            except StartError as error:
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                return
            self.router.routes[:] = chain.from_iterable(map(_direct, self.router.routes))
        await super().__call__(_covered(scope), receive, send)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by name, so that ``flyte deploy`` can hash the app: routers hold locks."""
        return pkgutil.resolve_name, ("app.main:app",)

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        if self.openapi_schema:
            return self.openapi_schema
        document = super().openapi()
        problem = Problem.model_json_schema(ref_template=SCHEMAS + "{model}")
        components = document.setdefault("components", {})
        components.setdefault("schemas", {}).update(problem.pop("$defs"), Problem=problem)
        components["securitySchemes"] = schemes = {"bearer": BEARER, "cookie": COOKIE}
        for name in self.settings.credential_headers:
            schemes[name] = {"type": "apiKey", "in": "header", "name": name}
        security: list[Any] = [{name: []} for name in schemes]
        security += [{}] * self.settings.flyte_plaintext  # no credentials reach Flyte anyway
        for path, operations in document["paths"].items():
            for operation in operations.values():
                if path not in self.public:
                    operation["security"] = security
                for response in operation["responses"].values():
                    # OpenAPI before 3.2 cannot describe the events of a stream.
                    response.get("content", {}).get("text/event-stream", {}).clear()
        return document


def _direct(route: BaseRoute) -> list[BaseRoute]:
    """Return the endpoints of an included router as the app's own, or any other route as it is.

    FastAPI asks one included router after the other, at several times the cost.
    """
    return [*map(_copy_of, iter_route_contexts([route]))] if _is_plain(route) else [route]


def _is_plain(route: Any) -> bool:
    """Tell whether a route is an endpoint for HTTP, or an included router of nothing but those.

    FastAPI asks a router, too: one of an owner's own class may refuse what its endpoints take.
    """
    if context := getattr(route, "include_context", None):
        router, files = route.original_router, route.effective_low_priority_routes()
        is_more = type(router) is not APIRouter or context.form_limits or files
        return not is_more and all(map(_is_plain, router.routes))
    return isinstance(route, APIRoute)


def _copy_of(context: RouteContext) -> BaseRoute:
    """Return a copy of a route with what its routers add, which includes its handler."""
    made = copy(context.original_route)
    vars(made).update({k: getattr(context, k) for k in vars(made) if hasattr(context, k)})
    return made


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

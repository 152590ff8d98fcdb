"""The app class, and what it adds to the OpenAPI document.

Any route may be refused by the middleware for lack of credentials, and any call to Flyte may fail.
FastAPI does not know that, so it is described here, once, for all routes.
"""

import pkgutil
from collections.abc import Collection, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Receive, Scope, Send

from .requests import docs, health
from .requests.access_log import AccessLogMiddleware
from .requests.credentials import keep_handshakes_out_of_the_log
from .requests.door import GuardMiddleware, HeadersMiddleware, RoutePathMiddleware
from .requests.problems import Problem, ProblemMiddleware, documented, respond
from .requests.telemetry import TELEMETRY, UncoverMiddleware, covered
from .settings import Settings

BEARER = {"type": "http", "scheme": "bearer", "description": "A Flyte access token."}
COOKIE = {
    "type": "apiKey",
    "in": "cookie",
    "name": "flyte_at",
    "description": "Flyte's sign-in cookie; the browser of a signed-in user sends it.",
}

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
        public: Collection[str],
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
        cors = [  # lets pages of trusted origins call the app and read the answers
            Middleware(
                CORSMiddleware,
                allow_origins=settings.trusted_origins,
                allow_credentials=True,
                allow_methods=["*"],
                allow_headers=["Authorization", "Last-Event-ID", *settings.credential_headers],
                expose_headers=["Location", "X-Request-ID"],
            )
        ] * bool(settings.trusted_origins)
        around = [  # the outermost first
            Middleware(UncoverMiddleware),
            Middleware(AccessLogMiddleware, form=settings.access_log),
            Middleware(HeadersMiddleware),
            *cors,
            Middleware(RoutePathMiddleware),
            Middleware(GuardMiddleware, settings=settings, public=public),
            # One call to Flyte may take flyte_timeout; a whole request, twice that.
            Middleware(ProblemMiddleware, timeout=2 * settings.flyte_timeout),
            *middleware,
            Middleware(RoutePathMiddleware),
            Middleware(RequestBodyLimitMiddleware, max_body_size=settings.largest_body),
        ]
        super().__init__(
            generate_unique_id_function=lambda route: route.name,
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,  # a redirect would contain the client's Host header
            middleware=around,
            telemetry=TELEMETRY,
            exception_handlers={HTTPException: respond, RequestValidationError: respond},
            **options,
        )
        self.settings, self.public = settings, public
        self.readiness = health.Readiness(settings.flyte_timeout)
        # Not included: matching a path against an included router takes several times as long.
        self.router.routes += [*docs.router.routes, *health.router.routes]
        keep_handshakes_out_of_the_log()
        self.build_middleware_stack()  # so that wrong options of a middleware fail at start-up

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        await super().__call__(covered(scope), receive, send)

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
            _keep_links_that_lead_somewhere(document["paths"])
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


def _keep_links_that_lead_somewhere(paths: dict[str, Any]) -> None:
    """Remove links to operations that the owner has deleted from the app."""
    operations = [operation for path in paths.values() for operation in path.values()]
    offered = {operation["operationId"] for operation in operations}
    for operation in operations:
        for response in operation["responses"].values():
            if links := response.get("links"):
                response["links"] = {
                    name: link for name, link in links.items() if link["operationId"] in offered
                }


def _add_problem(schemas: dict[str, Any]) -> None:
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= {**problem.pop("$defs"), "Problem": problem}
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)

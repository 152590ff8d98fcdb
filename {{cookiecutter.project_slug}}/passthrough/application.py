"""The app class, and what it adds to the OpenAPI document.

The middleware may refuse any request, and any call to Flyte may fail. FastAPI does not know that,
so it is described here, once, for all routes.
"""

import asyncio
import gc
import pkgutil
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.types import Message, Receive, Scope, Send

from .calls.errors import StartError
from .calls.make_safe import make_safe
from .calls.request_calls import current_calls
from .http.bodies import LargeBodies
from .http.door import CONFIG, COVERED, Door, configuration
from .http.logging_setup import (
    keep_credentials_out_of_uvicorns_log,
    log_failures_without_texts,
    log_to_the_console,
)
from .http.operations import operations_by_id
from .http.problems import Problem, respond
from .http.public import ExceptPublic, is_public
from .http.public import router as public_routes
from .http.stopping import stopping
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
        public: frozenset[str],
        middleware: Sequence[Middleware],
        **options: Any,
    ) -> None:
        """Build an app.

        Args:
            settings: The app's configuration.
            public: Paths that need no credentials.
            middleware: For all requests but public ones, inside the app's own; the outermost first.
            options: Passed on to FastAPI.
        """
        bodies = Middleware(LargeBodies, largest=settings.largest_body)
        super().__init__(
            generate_unique_id_function=lambda route: route.name,
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,  # a redirect would contain the client's Host header
            middleware=[
                Middleware(Door, settings=settings, public=public),
                Middleware(ExceptPublic, [*middleware, bodies]),
            ],
            telemetry=TELEMETRY,
            exception_handlers={HTTPException: respond, RequestValidationError: respond},
            responses={"default": PROBLEM},
            **options,
        )
        self.settings, self.public = settings, public
        self.challenges: dict[str, Callable[[HTTPConnection], str]] = {}
        """Values of WWW-Authenticate in a 401, other than ``Bearer``, by the path."""
        self.include_router(public_routes)
        keep_credentials_out_of_uvicorns_log()

    def add_middleware(self, middleware_class: Any, *args: Any, **options: Any) -> None:
        """Add middleware inside the door: around it there is no path yet, and no problem."""
        super().add_middleware(middleware_class, *args, **options)
        middleware: list[Any] = self.user_middleware
        middleware.sort(key=lambda each: each.cls is not Door)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await self._start_and_stop(scope, receive, send)
        else:
            await super().__call__(_covered(scope), receive, send)

    async def _start_and_stop(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the owner's lifespan in an SDK that is safe, then prepare the process."""

        async def noting_send(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                scope.setdefault("state", {})[CONFIG] = configuration()
                log_to_the_console(self.settings)
                log_failures_without_texts()
                stopping.listen()
                contain_exits()
                tune_the_collector()
            # Starlette sends startup.failed with the traceback; ours, with the message, is below.
            if not isinstance(sys.exception(), StartError):
                await send(message)

        try:
            operations_by_id(self.routes)  # of two with one name, one would be in no document
            make_safe()  # before the owner's lifespan initialises Flyte
            await super().__call__(scope, receive, noting_send)
        except StartError as error:  # a message without a traceback
            await send({"type": "lifespan.startup.failed", "message": str(error)})

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by name, so that ``flyte deploy`` can hash the app: routers hold locks."""
        return pkgutil.resolve_name, ("app.main:app",)

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        if self.openapi_schema:
            return self.openapi_schema
        document = super().openapi()
        # FastAPI puts the server's prefix (--root-path) before it.
        document.setdefault("servers", [{"url": self.settings.public_url or "/"}])
        problem = Problem.model_json_schema(ref_template=SCHEMAS + "{model}")
        components = document.setdefault("components", {})
        components.setdefault("schemas", {}).update(problem.pop("$defs"), Problem=problem)
        components["securitySchemes"] = schemes = {"bearer": BEARER, "cookie": COOKIE}
        for name in self.settings.credential_headers:
            schemes[name] = {"type": "apiKey", "in": "header", "name": name}
        security: list[Any] = [{name: []} for name in schemes]
        if self.settings.flyte_plaintext:
            security.append({})  # no credentials reach Flyte anyway
        for path, operations in document["paths"].items():
            for operation in operations.values():
                is_open = is_public({"path": path}, self.public)
                operation["security"] = [] if is_open else security
                for response in operation["responses"].values():
                    # OpenAPI before 3.2 cannot describe the events of a stream.
                    response.get("content", {}).get("text/event-stream", {}).clear()
        return document


def _covered(scope: Scope) -> Scope:
    """Hide from FastAPI's telemetry what it must not see; the door restores it.

    Spans and metrics hold no more than the access log, so names of runs and misplaced credentials
    are not exported.
    """
    # A client's other trace headers (tracestate, baggage) can hold any text.
    headers = [header for header in scope["headers"] if header[0] == b"traceparent"]
    seen = {"path": "", "query_string": b"", "headers": headers}
    return {**scope, **seen, COVERED: {name: scope[name] for name in seen}}


def contain_exits() -> None:
    """Make an exit in one of a request's tasks an ordinary error.

    asyncio ends the event loop if a task raises ``SystemExit``, as argparse and click do. Streams
    run in tasks that FastAPI starts, and so does an endpoint behind an owner's middleware: no other
    place is around all of them. A task costs 2 microseconds more, of 9.
    """
    loop = asyncio.get_running_loop()
    make: Any = loop.get_task_factory() or _make_task

    def make_contained(loop: Any, coro: Any, **options: Any) -> Any:
        if current_calls.get() is None:
            return make(loop, coro, **options)
        task = make(loop, _contained(coro), **options)
        task.add_done_callback(lambda _: coro.close())  # if it was cancelled before it began
        return task

    loop.set_task_factory(make_contained)


def _make_task(loop: Any, coro: Any, **options: Any) -> Any:
    return asyncio.Task(coro, loop=loop, **options)


async def _contained(coro: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await coro
    except (SystemExit, KeyboardInterrupt) as error:
        if stopping.is_interrupt(error):
            raise
        raise RuntimeError(f"a task raised {type(error).__name__}") from error


def tune_the_collector() -> None:
    """Make Python's garbage collector run less often, without what exists from the start.

    Modules, routes and the SDK are never garbage, and reading them again and again takes time:
    without this, ``GET /me`` costs 1.11 times as much with 16 at once, and 1.31 times with 100.
    """
    gc.freeze()
    gc.set_threshold(10_000)

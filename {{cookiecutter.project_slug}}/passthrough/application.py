"""Reads the settings, connects to Flyte, and builds the FastAPI app."""

import asyncio
import gc
import os
import pkgutil
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from difflib import get_close_matches
from pickle import PicklingError
from typing import Any, TypeVar

import anyio
import flyte
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from .calls.make_safe import make_safe
from .calls.sdk import StartError
from .http import public as public_routes
from .http.bodies import RequestBodyMiddleware
from .http.callers import ConcurrencyLimitMiddleware
from .http.forwarding import ProjectDomain
from .http.logging_setup import set_up_logging
from .http.middleware import (
    PrivateRoutesMiddleware,
    RequestMiddleware,
    for_trusted_origins,
    is_public,
)
from .http.problems import Problem, respond
from .settings import Settings

BEARER = {"type": "http", "scheme": "bearer", "description": "A Flyte access token."}
COOKIE = {"type": "apiKey", "in": "cookie", "name": "flyte_at"}  # cookie of Flyte's sign-in
TELEMETRY: TelemetryConfig = {
    "auto_configure": True,  # takes effect if OTEL_EXPORTER_OTLP_ENDPOINT is set
    "logs": False,  # problems.py logs exceptions, and redacts credentials
    "operation_spans": False,  # no spans for dependencies, endpoints and serialization
}
PROJECT_AND_DOMAIN: list[dict[str, Any]] = [
    {
        "name": name,
        "in": "query",
        "schema": {"type": "string"},
        "description": f"Flyte {name} to use. Default: the {name} in the app's settings.",
    }
    for name in ("project", "domain")
]
"""Query parameters that `ProjectDomain` adds to private operations and to tools."""
HELP = "See env_vars in deployment.py. `make dev` starts the app with a local Flyte server."

AnySettings = TypeVar("AnySettings", bound=Settings)


def load_settings(kind: type[AnySettings], environ: Mapping[str, str] = os.environ) -> AnySettings:
    """Read the settings from environment variables.

    Args:
        kind: The class of the settings.
        environ: The environment variables. The function ignores variables with an empty value.

    Returns:
        The settings.

    Raises:
        StartError: A value is invalid, so the app does not start. For each invalid value, the
            message names the variable and describes valid values. The message does not contain the
            invalid value, which may be a credential.

    Example:
        >>> load_settings(Settings, {"FLYTE_TIMEOUT": "60"}).flyte_timeout
        60.0
    """
    lines = ["cannot start with these environment variables:"]
    try:
        return kind.model_validate({name: value for name, value in environ.items() if value})
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            # The error of a check of several settings has an empty `loc`.
            variable, *place = detail["loc"] or ("together",)
            entry = "".join(f", entry {index + 1}" for index in place if isinstance(index, int))
            lines.append(f"{variable}{entry}: {detail['msg'].removeprefix('Value error, ')}")
    raise StartError("\n  ".join(dict.fromkeys(lines)))


def validate_env(kind: type[Settings], variables: dict[str, str]) -> dict[str, str]:
    """Validate the environment variables of a deployment, or of ``.env``, before the app starts.

    Args:
        kind: The class of the settings.
        variables: The environment variables.

    Returns:
        The argument ``variables``, for ``env_vars=`` in ``deployment.py``.

    Raises:
        StartError: A value is invalid, or a name looks like a misspelt setting.

    Example:
        >>> validate_env(Settings, {"LOG_LEVEL": "DEBUG"})
        {'LOG_LEVEL': 'DEBUG'}
    """
    load_settings(kind, variables)
    aliases: list[Any] = [field.validation_alias for field in kind.model_fields.values()]
    names = [getattr(alias, "choices", [alias])[0] for alias in aliases]
    for name in variables.keys() - {*names}:
        for suggestion in get_close_matches(name, names, n=1, cutoff=0.87):
            raise StartError(f"{name} is not a setting of the app; did you mean {suggestion}?")
    return variables


async def connect(settings: Settings) -> None:
    """Initialise the SDK, so that each request calls Flyte as its caller.

    `connect` itself does not call Flyte. An `App` calls `connect` when it starts. An app of another
    class must call `connect` in its lifespan.

    Args:
        settings: The settings of the app, with the address of Flyte.

    Raises:
        StartError: The address of Flyte is missing, or the connection would have no TLS although
            ``allow_anonymous`` is false. Without TLS, the SDK would send no credentials, and
            raise no error (github.com/flyteorg/flyte-sdk, pull request 761).

    Example:
        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
            await connect(settings)
            yield

        app = FastAPI(lifespan=lifespan)
    """
    if not settings.flyte_endpoint:
        problem = "neither FLYTE_ENDPOINT nor _U_EP_OVERRIDE, which Flyte injects, is set"
        raise StartError(f"cannot start: {problem}. {HELP}")
    if settings.flyte_plaintext and not settings.allow_anonymous:
        raise StartError(
            "cannot start: the connection to Flyte would be plaintext (FLYTE_ENDPOINT or"
            " _U_EP_OVERRIDE has http://, or _U_INSECURE is set), without credentials. Use TLS, or"
            f" set ALLOW_ANONYMOUS=true to make every caller anonymous. {HELP}"
        )
    await flyte.init.aio(
        endpoint=settings.flyte_endpoint,
        org=settings.flyte_org,
        project=settings.flyte_project,
        domain=settings.flyte_domain,
        insecure=settings.flyte_plaintext,
        auth_type="Passthrough",
        batch_size=200,  # entries per page of a list; the maximum of Flyte
    )
    set_up_logging(settings)  # again, because the SDK has added a handler that does not redact


class App(FastAPI):
    """A FastAPI app with a health check, offline documentation and problem responses (RFC 9457).

    The app connects to Flyte when it starts. ``http/middleware.py`` lists the requests that the app
    refuses, with the status of each response. ``flyte deploy`` can pickle the app if the argument
    ``import_name`` is set.

    Raises:
        StartError: The app cannot start, for example because the address of Flyte is missing. The
            app raises this error in its lifespan, so a server prints the message and stops.

    Example:
        app = App(
            settings,
            public={"/version"},
            middleware=[passthrough_middleware(settings), ProjectDomain],
            title="my-app",
        )
        app.include_router(router)
    """

    def __init__(
        self,
        settings: Settings,
        public: Collection[str] = (),
        middleware: Sequence[Middleware] = (),
        headers: Mapping[str, str] | None = None,
        import_name: str = "",
        **options: Any,
    ) -> None:
        """Build an app.

        Args:
            settings: The settings of the app.
            public: Paths that need no credentials, in addition to ``PATHS`` in ``http/public.py``.
            middleware: Middleware for requests to private paths. The first middleware is the
                outermost.
            headers: Headers for all responses. Each header replaces the default header with the
                same name (``http/headers.py``). Headers that an endpoint sets take precedence.
            import_name: The module and the variable of the app, such as ``app.main:app``. Without
                ``import_name``, ``flyte deploy`` raises a PicklingError.
            options: Further arguments of ``FastAPI``.
        """
        self.settings, self.public = settings, {*public_routes.PATHS, *public}
        self._headers, self._import_name = headers or {}, import_name
        self._private_middleware = [*middleware, Middleware(ConcurrencyLimitMiddleware, settings)]
        super().__init__(
            generate_unique_id_function=lambda route: route.name,
            docs_url=None,  # http/public.py serves the documentation
            redoc_url=None,
            redirect_slashes=False,  # a redirect would use the host that the client sends
            telemetry=TELEMETRY,
            exception_handlers={HTTPException: respond, RequestValidationError: respond},
            responses={"default": {"model": Problem, "description": "A problem (RFC 9457)"}},
            **options,
        )
        self.challenges: dict[str, Callable[[HTTPConnection], str]] = {}
        """Maps a path to a function. For a 401 of this path, the function returns the header
        ``WWW-Authenticate``. A 401 of any other path has ``WWW-Authenticate: Bearer``."""
        self.include_router(public_routes.router)
        self._public_routes = [*self.router.routes]

    def build_middleware_stack(self) -> ASGIApp:
        """Add the middleware. `RequestMiddleware` sends the errors of all inner middleware."""
        # Starlette tries routes in order, so move the rarely used public routes to the end.
        self.router.routes.sort(key=self._public_routes.__contains__)
        self.user_middleware = [
            *for_trusted_origins(self.settings),
            Middleware(RequestMiddleware, self.settings, self._headers),
            *self.user_middleware,
            Middleware(PrivateRoutesMiddleware, self.public, self._private_middleware),
            Middleware(RequestBodyMiddleware, self.settings.max_body_size),
        ]
        return super().build_middleware_stack()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope. Connect to Flyte before the developer's lifespan starts."""
        if scope["type"] == "lifespan":
            set_up_logging(self.settings)
            try:
                make_safe()
                await connect(self.settings)
            except (Exception, StartError) as error:
                # Without ``lifespan.startup.failed``, a server would start as if the app had no
                # lifespan.
                text = str(error) if isinstance(error, StartError) else traceback.format_exc()
                await send({"type": "lifespan.startup.failed", "message": text})
                raise
            prepare_the_process(self.settings)
        await super().__call__(scope, receive, send)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the app by name, because routers hold locks, which cannot be pickled."""
        if not self._import_name:
            raise PicklingError("the app has no name: give App(import_name=f'{__name__}:app')")
        return pkgutil.resolve_name, (self._import_name,)

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        if self.openapi_schema:
            return self.openapi_schema
        document = super().openapi()
        # If uvicorn has a path prefix (--root-path), FastAPI has set `servers` to the prefix.
        document.setdefault("servers", [{"url": self.settings.public_url or "/"}])
        document["components"]["securitySchemes"] = schemes = {"bearer": BEARER, "cookie": COOKIE}
        for name in self.settings.credential_headers:
            schemes[name] = {"type": "apiKey", "in": "header", "name": name}
        security: list[Any] = [{name: []} for name in schemes]
        for path, operations in document["paths"].items():
            for operation in operations.values():
                is_private = not is_public(path, self.public)
                operation["security"] = security if is_private else []
                if ProjectDomain in self._private_middleware and is_private:
                    _add_project_and_domain(operation)
                _correct_responses(operation["responses"])
        return document


def _add_project_and_domain(operation: dict[str, Any]) -> None:
    parameters = operation.setdefault("parameters", [])
    names = {parameter["name"] for parameter in parameters if parameter["in"] == "query"}
    parameters += [new for new in PROJECT_AND_DOMAIN if new["name"] not in names]


def _correct_responses(responses: dict[str, Any]) -> None:
    """Correct the description of problem responses (RFC 9457) and event streams in OpenAPI."""
    for status, response in responses.items():
        content = response.get("content", {})
        if status == "default":
            response["content"] = {"application/problem+json": content.popitem()[1]}
        # OpenAPI before 3.2 cannot describe the events of a stream.
        content.get("text/event-stream", {}).clear()


def prepare_the_process(settings: Settings) -> None:
    """Change global settings of the Python process when the app starts.

    - The garbage collector ignores all objects that exist at the start, and runs less often.
      With the default settings of the garbage collector, 100 concurrent requests of ``GET /me``
      take a sixth more time.
    - The thread pools have at least twice as many threads as one caller may have open requests, so
      one caller cannot use all threads.

    Other modules change the process, too:

    - `make_safe` changes attributes of ``flyte`` and sets the variable ``DO_NOT_TRACK``.
    - `set_up_logging` changes handlers and levels of loggers if the root logger has no handler.
    - ``passthrough_auth.py`` changes how the event loop closes abandoned async generators.
    - ``agents`` changes the log level of ``mcp.server``.
    """
    gc.freeze()
    gc.set_threshold(10_000)
    threads = anyio.to_thread.current_default_thread_limiter()
    threads.total_tokens = max(40, 2 * settings.max_concurrent_requests_per_caller)
    executor = ThreadPoolExecutor(int(threads.total_tokens))
    asyncio.get_running_loop().set_default_executor(executor)

"""How the app starts: settings are read, Flyte is connected to, the app is built and served."""

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
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from .calls.make_safe import make_safe
from .calls.request_state import called_at_stop
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
COOKIE = {"type": "apiKey", "in": "cookie", "name": "flyte_at"}  # Flyte's sign-in
TELEMETRY: TelemetryConfig = {
    "auto_configure": True,  # if OTEL_EXPORTER_OTLP_ENDPOINT is set
    "logs": False,  # problems.py logs exceptions, without credentials
    "operation_spans": False,  # FastAPI's own steps
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
"""Parameters of every operation, if the app has `ProjectDomain`: agents' tools have them, too."""
MAX_PIPELINED = 10  # requests that wait behind another on a connection; then it is closed
WHERE = "See what deployment.py says at env_vars; `make dev` starts the app with a local Flyte."

AnySettings = TypeVar("AnySettings", bound=Settings)


def load_settings(kind: type[AnySettings], environ: Mapping[str, str] = os.environ) -> AnySettings:
    """Read the settings from the environment.

    Raises:
        StartError: Lists what is wrong and what to give, but no value: it may be a credential.
    """
    lines = ["cannot start with these environment variables:"]
    try:
        return kind.model_validate({name: value for name, value in environ.items() if value})
    except ValidationError as error:
        for one in error.errors(include_url=False):
            variable, *place = one["loc"] or ("together",)  # of a check of several settings
            entry = "".join(f", entry {index + 1}" for index in place if isinstance(index, int))
            lines.append(f"{variable}{entry}: {one['msg'].removeprefix('Value error, ')}")
    raise StartError("\n  ".join(dict.fromkeys(lines)))


def validate_env(kind: type[Settings], variables: dict[str, str]) -> dict[str, str]:
    """Return the variables of a deployment, or of ``.env``, if the app will start with them.

    Raises:
        StartError: It will not, or one looks like a setting that is misspelt.
    """
    load_settings(kind, variables)
    aliases: list[Any] = [field.validation_alias for field in kind.model_fields.values()]
    names = [getattr(alias, "choices", [alias])[0] for alias in aliases]
    for name in variables.keys() - {*names}:
        for meant in get_close_matches(name, names, n=1, cutoff=0.87):
            raise StartError(f"{name} is not a setting of the app; did you mean {meant}?")
    return variables


async def connect(settings: Settings) -> None:
    """Initialise the SDK to call Flyte as each request's caller, as `App` does at its start.

    It sends nothing yet.

    Raises:
        StartError: There is no address for Flyte, or the connection would be plaintext, over which
            the SDK silently drops credentials (github.com/flyteorg/flyte-sdk, pull request 761).
    """
    if not settings.flyte_endpoint:
        wrong = "neither FLYTE_ENDPOINT nor _U_EP_OVERRIDE, which Flyte injects, is set"
        raise StartError(f"cannot start: {wrong}. {WHERE}")
    if settings.flyte_plaintext and not settings.allow_anonymous:
        raise StartError(
            "cannot start: the connection to Flyte would be plaintext (FLYTE_ENDPOINT or"
            " _U_EP_OVERRIDE has http://, or _U_INSECURE is set), without credentials. Use TLS, or"
            f" set ALLOW_ANONYMOUS=true to make every caller anonymous. {WHERE}"
        )
    await flyte.init.aio(
        endpoint=settings.flyte_endpoint,
        org=settings.flyte_org,
        project=settings.flyte_project,
        domain=settings.flyte_domain,
        insecure=settings.flyte_plaintext,
        auth_type="Passthrough",
        batch_size=200,  # the most that Flyte lists at once
    )
    set_up_logging(settings)  # again: the SDK has added a handler, which redacts nothing


class App(FastAPI):
    """A FastAPI app with documentation, probes and problem responses. Flyte can pickle it."""

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
            settings: The app's.
            public: Paths that need no credentials, besides those of the documentation.
            middleware: For all requests but public ones, inside the app's own; the outermost first.
            headers: For every response that does not set them itself, instead of those of the
                same name in ``http/headers.py``.
            import_name: The app's module and variable, such as ``app.main:app``, by which
                ``flyte deploy`` pickles the app.
            options: FastAPI's.
        """
        self.settings, self.public = settings, {*public_routes.PATHS, *public}
        self._headers, self._import_name = headers or {}, import_name
        self._inner = [*middleware, Middleware(ConcurrencyLimitMiddleware, settings)]
        super().__init__(
            generate_unique_id_function=lambda route: route.name,
            docs_url=None,  # http/public.py serves it
            redoc_url=None,
            redirect_slashes=False,  # a redirect would contain the client's Host header
            telemetry=TELEMETRY,
            exception_handlers={HTTPException: respond, RequestValidationError: respond},
            responses={"default": {"model": Problem, "description": "A problem (RFC 9457)"}},
            **options,
        )
        self.challenges: dict[str, Callable[[HTTPConnection], str]] = {}
        """Values of WWW-Authenticate in a 401, by the path; else ``Bearer``."""
        self.include_router(public_routes.router)
        self._routes_of_docs = [*self.router.routes]

    def build_middleware_stack(self) -> ASGIApp:
        """Put `RequestMiddleware` outside of the developer's middleware, to answer its errors."""
        # Routes are tried in order: the owner's come first, because they are asked for more often.
        self.router.routes.sort(key=self._routes_of_docs.__contains__)
        self.user_middleware = [
            *for_trusted_origins(self.settings),
            Middleware(RequestMiddleware, self.settings, self._headers),
            *self.user_middleware,
            Middleware(PrivateRoutesMiddleware, self.public, self._inner),
            Middleware(RequestBodyMiddleware, self.settings.max_body_size),
        ]
        return super().build_middleware_stack()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope; connect to Flyte before the owner's lifespan."""
        if scope["type"] == "lifespan":
            set_up_logging(self.settings)
            try:
                make_safe()
                await connect(self.settings)
            except (Exception, StartError) as error:
                # Or a server would take the app for one without a lifespan, and serve it.
                text = str(error) if isinstance(error, StartError) else traceback.format_exc()
                await send({"type": "lifespan.startup.failed", "message": text})
                raise
            prepare_the_process(self.settings)
        await super().__call__(scope, receive, send)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by name, so that ``flyte deploy`` can hash the app: routers hold locks."""
        if not self._import_name:
            raise PicklingError("the app has no name: give App(import_name=f'{__name__}:app')")
        return pkgutil.resolve_name, (self._import_name,)

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        if self.openapi_schema:
            return self.openapi_schema
        document = super().openapi()
        # FastAPI puts the server's prefix (--root-path) before it.
        document.setdefault("servers", [{"url": self.settings.public_url or "/"}])
        document["components"]["securitySchemes"] = schemes = {"bearer": BEARER, "cookie": COOKIE}
        for name in self.settings.credential_headers:
            schemes[name] = {"type": "apiKey", "in": "header", "name": name}
        security: list[Any] = [{name: []} for name in schemes]
        for path, operations in document["paths"].items():
            for operation in operations.values():
                is_open = is_public(path, self.public)
                operation["security"] = [] if is_open else security
                if ProjectDomain in self._inner and not is_open:
                    parameters = operation.setdefault("parameters", [])
                    own = {each["name"] for each in parameters if each["in"] == "query"}
                    parameters += [one for one in PROJECT_AND_DOMAIN if one["name"] not in own]
                for status, response in operation["responses"].items():
                    content = response.get("content", {})
                    if status == "default":
                        response["content"] = {"application/problem+json": content.popitem()[1]}
                    # OpenAPI before 3.2 cannot describe the events of a stream.
                    content.get("text/event-stream", {}).clear()
        return document


def prepare_the_process(settings: Settings) -> None:
    """Change the process when the app starts.

    - The garbage collector skips what exists from the start, and runs less often: otherwise
      ``GET /me`` costs a sixth more, with 100 at once.
    - There are so many threads that no caller can hold all of them.

    Elsewhere, the app changes attributes of ``flyte`` and the variable ``DO_NOT_TRACK``, because
    the SDK would send reports of usage (`make_safe`); handlers and levels of loggers, unless the
    owner has set handlers (`set_up_logging`); the event loop's finaliser of abandoned generators
    (``passthrough_auth.py``); with agents, the level of ``mcp.server``; and nothing else of the
    process.
    """
    gc.freeze()
    gc.set_threshold(10_000)
    threads = anyio.to_thread.current_default_thread_limiter()
    threads.total_tokens = most = max(40, 2 * settings.max_concurrent_requests_per_caller)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(most))


class Protocol(HttpToolsProtocol):
    """The server's side of a connection, with corrections of uvicorn's."""

    _running: RequestResponseCycle | None = None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_headers_complete(self) -> None:
        """Go on reading after a pipelined request; otherwise a disconnect would stay unnoticed."""
        super().on_headers_complete()
        if len(self.pipeline) > MAX_PIPELINED:
            self.transport.close()
        elif self.pipeline:
            self.flow.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the running request that its client has left, and free the last request.

        uvicorn tells only the request that was received last. After a reset, it keeps the last
        request, with credentials, until ``timeout_keep_alive`` is over: six clients whom nobody
        knows took 38 MB a second.
        """
        super().connection_lost(exc)
        if self._running and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        self._running = None
        if timer := self.timeout_keep_alive_task:
            timer.cancel()

    def _unsupported_upgrade_warning(self) -> None:
        """Log nothing: the request is served, and `RequestMiddleware` refuses WebSockets."""

    def shutdown(self) -> None:
        """End requests: the server, which stops, waits for those that are open."""
        super().shutdown()
        for call, loop in list(called_at_stop.items()):
            if loop is self.loop:  # another thread may have another server
                del called_at_stop[call]
                call()


UVICORN: dict[str, Any] = {
    "http": f"{__name__}:Protocol",  # by its name, as the variable UVICORN_HTTP has it
    "ws": "none",  # event streams do what the app needs; http/middleware.py accepts none either
    "proxy_headers": False,  # the app does not use the client's address
    "access_log": False,  # http/middleware.py has its own
    "reset_contextvars": True,  # nothing of one request is left for the next on its connection
    # Longer than proxies keep idle connections (60 or 90 seconds, usually): if the app closes one
    # while a proxy sends a request on it, the request fails.
    "timeout_keep_alive": 120,
    "timeout_graceful_shutdown": 20,
}
"""Options of ``uvicorn.Config``, the same however the app is started."""

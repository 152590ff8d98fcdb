"""The FastAPI app: settings, middleware, routers and error responses, put together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.cors import CORSMiddleware

from . import docs
from .credentials import credential_extractors, keep_handshakes_out_of_the_log
from .disconnects import DisconnectMiddleware
from .flyte_client import connect
from .headers import LARGEST_BODY, HeadersMiddleware, SizeMiddleware
from .openapi import App
from .passthrough_auth import FastAPIPassthroughAuthMiddleware as PassthroughAuth
from .problems import ProblemMiddleware, add_problem_responses, problem_response
from .routers import (
    health,
    me,
    page,
    projects,
    runs,
    streams,
    tasks,
)
from .settings import Settings, load_settings

PUBLIC = {"/health", "/ready", *docs.PATHS, *page.PATHS}
"""What needs no credentials."""


def create_app(settings: Settings) -> FastAPI:
    """Build the app. It connects to Flyte when it starts, not here."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, object]]:
        keep_handshakes_out_of_the_log()
        flyte = await connect(settings)
        yield {"settings": settings, "flyte": flyte, "readiness": health.Readiness()}

    app = App(
        settings,
        PUBLIC,
        title="{{ cookiecutter.project_slug }}",
        version="0.1.0",
        description="""{{ cookiecutter.__description_escaped }}""",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # redirects would name the host that the client says it called
        middleware=[  # from the outside in
            Middleware(HeadersMiddleware),
            Middleware(
                CORSMiddleware,  # so that pages of trusted origins can call, and read what they get
                allow_origins=settings.trusted_origins,
                allow_credentials=True,
                allow_methods=["*"],
                allow_headers=["Authorization", "Last-Event-ID", *settings.credential_headers],
                expose_headers=["Location"],
            ),
            Middleware(SizeMiddleware),
            # One call to Flyte may take flyte_timeout; what is done for a request, twice that.
            Middleware(ProblemMiddleware, timeout=2 * settings.flyte_timeout),
            Middleware(
                PassthroughAuth,
                header_extractors=credential_extractors(settings),
                excluded_paths=PUBLIC,
                cookie_names=settings.cookie_names,
                trusted_origins=settings.trusted_origins,
                assume_ambient=True,  # a proxy may turn a cookie into any credential
                refusal_handler=problem_response,
            ),
            Middleware(DisconnectMiddleware),
            Middleware(RequestBodyLimitMiddleware, max_body_size=LARGEST_BODY),
        ],
    )
    add_problem_responses(app)
    for router in (
        docs.router,
        health.router,
        page.router,
        me.router,
        projects.router,
        tasks.router,
        runs.router,
        streams.router,
        streams.websocket_router,
    ):
        app.include_router(router)
    app.build_middleware_stack()  # what the middleware refuses stops the app now, not each request
    return app


app = create_app(load_settings())

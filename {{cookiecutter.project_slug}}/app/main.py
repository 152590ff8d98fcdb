"""The FastAPI app: settings, middleware, routers and error responses, put together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from starlette.middleware import Middleware

from .credentials import credential_extractors
from .dependencies import CREDENTIALS, flyte_deadline
from .flyte_client import connect
from .headers import HeadersMiddleware
from .passthrough_auth import FastAPIPassthroughAuthMiddleware as PassthroughAuth
from .problems import ProblemMiddleware, add_problem_responses, documented
from .routers import health, me, page, projects, runs, tasks
from .settings import Settings, load_settings

MAX_BODY_SIZE = 1024 * 1024  # bytes


class App(FastAPI):
    """A FastAPI app that ``flyte deploy`` can pickle, which it does to compute a version."""

    def __reduce__(self) -> str:
        """Pickle the app by its name: its routers hold locks, and its code is hashed anyway."""
        return "app"


def create_app(settings: Settings) -> FastAPI:
    """Build the app. It connects to Flyte when it starts, not here."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Settings]]:
        await connect(settings)
        yield {"settings": settings}

    app = App(
        title="{{ cookiecutter.project_slug }}",
        version="0.1.0",
        description="{{ cookiecutter.__description_escaped }}",
        lifespan=lifespan,
        max_body_size=MAX_BODY_SIZE,
        redirect_slashes=False,  # redirects would name the host that the client says it called
        middleware=[  # from the outside in
            Middleware(HeadersMiddleware),
            Middleware(ProblemMiddleware),
            Middleware(
                PassthroughAuth,
                header_extractors=credential_extractors(settings),
                excluded_paths={
                    "/health",
                    "/ready",
                    "/docs",
                    "/redoc",
                    "/openapi.json",
                    *page.PATHS,
                },
                required=not settings.flyte_plaintext,
                cookie_names=settings.cookie_names,
                trusted_origins=settings.trusted_origins,
            ),
        ],
    )
    add_problem_responses(app)
    app.include_router(health.router)
    app.include_router(page.router)
    for router in (
        me.router,
        projects.router,
        tasks.router,
        runs.router,
    ):
        app.include_router(
            router,
            dependencies=[*CREDENTIALS, Depends(flyte_deadline, scope="function")],
            responses=documented(401, 403, 429, 503, 504),
        )
    app.include_router(runs.websocket_router)
    return app


app = create_app(load_settings())

"""The FastAPI app: settings, middleware, routers and error responses, put together."""

import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import Depends, FastAPI

from .dependencies import CREDENTIALS, flyte_deadline, not_cached
from .flyte_client import connect
from .passthrough_auth import FastAPIPassthroughAuthMiddleware as PassthroughAuth
from .problems import add_problem_responses, documented
from .routers import health, me, projects, runs, tasks
from .settings import Settings, load_settings

with (Path(__file__).parent.parent / "pyproject.toml").open("rb") as pyproject:
    PROJECT = tomllib.load(pyproject)["project"]
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
        title=PROJECT["name"],
        version=PROJECT["version"],
        description=PROJECT["description"],
        lifespan=lifespan,
        max_body_size=MAX_BODY_SIZE,
    )
    app.add_middleware(
        PassthroughAuth,
        header_extractors=[
            PassthroughAuth.extract_authorization_header,
            PassthroughAuth.extract_cookie_header,
            *map(PassthroughAuth.extract_custom_header, settings.credential_headers),
        ],
        excluded_paths={"/health", "/ready", "/docs", "/redoc", "/openapi.json"},
        cookie_names=settings.cookie_names,
        trusted_origins=settings.trusted_origins,
    )
    add_problem_responses(app)
    app.include_router(health.router)
    for router in (me.router, projects.router, tasks.router, runs.router):
        app.include_router(
            router,
            dependencies=[
                *CREDENTIALS,
                Depends(not_cached),
                Depends(flyte_deadline, scope="function"),
            ],
            responses=documented(401, 403, 429, 503, 504),
        )
    app.include_router(runs.websocket_router)
    return app


app = create_app(load_settings())

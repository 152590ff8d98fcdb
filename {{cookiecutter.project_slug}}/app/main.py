"""The FastAPI app: settings, middleware and routers, put together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware import Middleware

from passthrough import (
    PUBLIC_PATHS,
    App,
    FastAPIPassthroughAuthMiddleware,
    ProjectDomain,
    agents,
    connect,
    load_settings,
    passthrough_options,
)

from .routers import actions, conditions, files, me, page, projects, runs, streams, tasks
from .settings import Settings

ROUTERS = [
    me,
    projects,
    tasks,
    runs,
    actions,
    conditions,
    streams,
    files,
]
"""The modules of ``app/routers`` whose endpoints need credentials. Add yours."""

PUBLIC = frozenset({*PUBLIC_PATHS, *page.PATHS, *agents.PATHS})
"""Paths that need no credentials."""


def create_app(settings: Settings) -> App:
    """Build the app. It connects to Flyte when it starts, not here."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await connect(settings)
        yield

    app = App(
        settings,
        PUBLIC,
        title="{{ cookiecutter.project_slug }}",
        version="0.1.0",
        description="""{{ cookiecutter.__description_escaped }}""",
        lifespan=lifespan,
        middleware=[
            Middleware(FastAPIPassthroughAuthMiddleware, **passthrough_options(settings)),
        ],
    )
    for module in ROUTERS:
        app.include_router(module.router, dependencies=[ProjectDomain])
    app.include_router(page.router)
    agents.serve_agents(app)  # every endpoint is a tool for AI agents: docs/agents.md
    return app


app = create_app(load_settings(Settings))

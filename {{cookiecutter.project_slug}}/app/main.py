"""Builds the FastAPI app from settings, middleware and routers."""

from types import ModuleType

from passthrough import App, ProjectDomain, load_settings, passthrough_middleware
from passthrough.agents import serve_agents  # docs/agents.md

from .routers import (
    conditions,
    files,
    me,
    page,
    runs,
    streams,
    tasks,
)
from .settings import Settings

ROUTERS: list[ModuleType] = [
    me,
    tasks,
    runs,
    conditions,
    streams,
    files,
]
"""The modules of ``app/routers`` whose endpoints need credentials. Add yours."""


def create_app(settings: Settings) -> App:
    """Build the app, which connects to Flyte when it starts."""
    app = App(
        settings,
        public=page.PATHS,  # paths without credentials; to add a path: {*page.PATHS, "/more"}
        title="{{ cookiecutter.project_slug }}",
        version="0.1.0",
        description="""{{ cookiecutter.__description_escaped }}""",
        middleware=[passthrough_middleware(settings), ProjectDomain],
        import_name=f"{__name__}:app",
    )
    for module in ROUTERS:
        app.include_router(module.router)
    app.include_router(page.router)
    serve_agents(app, issuer=settings.oauth_issuer, scopes=settings.oauth_scopes)  # docs/agents.md
    return app


app = create_app(load_settings(Settings))

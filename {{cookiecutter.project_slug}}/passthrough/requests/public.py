"""What needs no credentials: the probe at /health, and the API's documentation at /docs.

The documentation is served entirely from the app's own origin. FastAPI's own page loads files from
another site and has an inline script; the app's Content-Security-Policy forbids both. The Swagger
UI files are those in the package ``fastapi-offline``; none of its code runs.
"""

from html import escape
from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel

from .door import PublicPaths
from .exchange import HEADERS

# URLs are relative, so that they also work under a proxy's path prefix.
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
<main id="docs"></main>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</html>
"""
START = """SwaggerUIBundle({
  url: "openapi.json",
  domNode: document.getElementById("docs"),
  deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset],
});
"""
FILES = ("swagger-ui.css", "swagger-ui-bundle.js")
PATHS = PublicPaths(
    ["/health", "/docs", "/openapi.json", "/docs/start.js", *(f"/docs/{name}" for name in FILES)]
)
"""They reveal no more than the app's source code."""

CSP = HEADERS["content-security-policy"].replace("style-src", "style-src 'unsafe-inline'")

router = APIRouter()
files = StaticFiles(packages=[("fastapi_offline", "static")])


class Health(BaseModel):
    """The answer of the probe."""

    status: Literal["ok"] = "ok"


@router.get("/health", summary="Is the app alive?", tags=["health"])
async def health() -> Health:
    """Returns `ok` as long as the process responds. Flyte is not asked."""
    return Health()


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """Serve Swagger UI, which sets inline styles."""
    page = PAGE.replace("{title}", escape(request.app.title))
    return HTMLResponse(page, headers={"Content-Security-Policy": CSP})


@router.get("/docs/start.js", include_in_schema=False)
async def start() -> Response:
    """Serve the script that starts Swagger UI."""
    return Response(START, media_type="text/javascript")


@router.get("/docs/{name}", include_in_schema=False)
async def file(name: Literal[FILES], request: Request) -> Response:  # type: ignore[valid-type]
    """Serve one of Swagger UI's files."""
    response = await files.get_response(name, request.scope)
    response.headers["Cache-Control"] = "public, max-age=86400"
    return response

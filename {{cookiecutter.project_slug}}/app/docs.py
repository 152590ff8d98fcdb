"""The API's documentation at /docs and /redoc, from files of the app's own origin.

FastAPI's own pages take theirs from other sites and hold a script inline, which the app's
Content-Security-Policy forbids. Swagger UI and ReDoc come from the package ``fastapi-offline``, of
which no code is used.
"""

from html import escape
from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from fastapi.staticfiles import StaticFiles

from .headers import HEADERS

# Addresses are relative, so that they also hold below a proxy's prefix.
SWAGGER_UI = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</html>
"""
START = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset],
});
"""
REDOC = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<redoc spec-url="openapi.json"></redoc>
<script src="docs/redoc.standalone.js"></script>
</html>
"""
FILES = ("swagger-ui.css", "swagger-ui-bundle.js", "redoc.standalone.js")
PATHS = {"/docs", "/redoc", "/openapi.json", "/docs/start.js", *(f"/docs/{name}" for name in FILES)}
"""What needs no credentials: it says what the app can do, which its source does too."""

# Both set styles from their scripts, and ReDoc searches in a worker.
CSP = HEADERS["content-security-policy"].replace("style-src", "style-src 'unsafe-inline'")
CSP += "; worker-src blob:"

router = APIRouter(include_in_schema=False)
files = StaticFiles(packages=[("fastapi_offline", "static")])


def _page(template: str, request: Request) -> HTMLResponse:
    page = template.replace("{title}", escape(request.app.title))
    return HTMLResponse(page, headers={"Content-Security-Policy": CSP})


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """Show Swagger UI."""
    return _page(SWAGGER_UI, request)


@router.get("/redoc")
async def redoc(request: Request) -> HTMLResponse:
    """Show ReDoc."""
    return _page(REDOC, request)


@router.get("/docs/start.js")
async def start() -> Response:
    """Start Swagger UI."""
    return Response(START, media_type="text/javascript")


@router.get("/docs/{name}")
async def file(name: Literal[FILES], request: Request) -> Response:  # type: ignore[valid-type]
    """Serve one of the files that the pages use."""
    response = await files.get_response(name, request.scope)
    response.headers["Cache-Control"] = "public, max-age=86400"
    return response

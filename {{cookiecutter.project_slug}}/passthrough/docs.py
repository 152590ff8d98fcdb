"""The API's documentation at /docs, from files of the app's own origin.

FastAPI's own page takes them from another site and holds a script inline, which the app's
Content-Security-Policy forbids. Swagger UI comes from the package ``fastapi-offline``, of which no
code is used.
"""

from html import escape
from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from fastapi.staticfiles import StaticFiles

from .headers import HEADERS

# Addresses are relative, so that they also hold below a proxy's prefix.
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
PATHS = {"/docs", "/openapi.json", "/docs/start.js", *(f"/docs/{name}" for name in FILES)}
"""What needs no credentials: it says what the app can do, which its source does too."""

CSP = HEADERS["content-security-policy"].replace("style-src", "style-src 'unsafe-inline'")

router = APIRouter(include_in_schema=False)
files = StaticFiles(packages=[("fastapi_offline", "static")])


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """Show Swagger UI, which sets styles from its script."""
    page = PAGE.replace("{title}", escape(request.app.title))
    return HTMLResponse(page, headers={"Content-Security-Policy": CSP})


@router.get("/docs/start.js")
async def start() -> Response:
    """Start it."""
    return Response(START, media_type="text/javascript")


@router.get("/docs/{name}")
async def file(name: Literal[FILES], request: Request) -> Response:  # type: ignore[valid-type]
    """Serve one of the files that the page uses."""
    response = await files.get_response(name, request.scope)
    response.headers["Cache-Control"] = "public, max-age=86400"
    return response

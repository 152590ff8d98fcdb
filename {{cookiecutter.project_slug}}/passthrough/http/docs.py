"""What is served from files, or made once: the probe, the documentation, and the files of a page.

All of it is served from the app's own origin. The Swagger UI files are those in the package
``fastapi-offline``; none of its code runs.
"""

import functools
import json
from base64 import b64encode
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from starlette.types import Scope

from .exchange import HEADERS

FILES = ("swagger-ui.css", "swagger-ui-bundle.js")
PATHS = frozenset({"/health", "/docs", "/openapi.json", *(f"/docs/{name}" for name in FILES)})
"""Paths that need no credentials: they reveal no more than the app's source code."""
SCRIPT = "SwaggerUIBundle({url: 'openapi.json', dom_id: '#swagger-ui', deepLinking: true})"
# Relative URLs also work under a proxy's path prefix.
PAGE = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>%s</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/{FILES[0]}">
<div id="swagger-ui"></div>
<script src="docs/{FILES[1]}"></script>
<script>{SCRIPT}</script>
"""
HASH = b64encode(sha256(SCRIPT.encode()).digest()).decode()
# Of inline scripts, only that one is allowed.
POLICY = (
    HEADERS["content-security-policy"]
    .replace("style-src", "style-src 'unsafe-inline'")
    .replace("script-src", f"script-src 'sha256-{HASH}'")
)

router = APIRouter()
files = StaticFiles(packages=[("fastapi_offline", "static")])


class Health(BaseModel):
    """The answer of the probe."""

    status: Literal["ok"] = "ok"


@router.get("/health", summary="Is the app alive?", tags=["health"])
async def health() -> Health:
    """Returns `ok` as long as the process responds. Flyte is not asked."""
    return Health()


@router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> Response:
    """Serve the OpenAPI document."""
    document = _document(request.app, request.scope.get("root_path", ""))
    return Response(document, media_type="application/json")


# Made once: anybody can ask for it, and 30 ms for each request would block everybody.
@functools.lru_cache(maxsize=8)
def _document(app: object, root_path: str) -> bytes:
    """Return the document for a server with this path prefix (``uvicorn --root-path``)."""
    document = app.openapi()  # type: ignore[attr-defined]
    if root_path:
        document = {**document, "servers": [{"url": root_path}, *document["servers"]]}
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """Serve Swagger UI."""
    page = PAGE % escape(request.app.title)
    return HTMLResponse(page, headers={"Content-Security-Policy": POLICY})


@router.get("/docs/{name}", include_in_schema=False)
async def file(name: Literal[FILES], request: Request) -> Response:  # type: ignore[valid-type]
    """Serve one of Swagger UI's files."""
    response = await files.get_response(name, request.scope)
    response.headers["Cache-Control"] = "public, max-age=86400"
    return response


PAGE_HEADERS = {
    "Cache-Control": "private, no-cache",  # cached, revalidated before each use
    # In addition to the usual policy: Trusted Types stop scripts from turning text into markup.
    "Content-Security-Policy": HEADERS["content-security-policy"]
    + "; require-trusted-types-for 'script'; trusted-types 'none'",
}


class PageFiles(StaticFiles):
    """Serves the files of a folder, also those that are added later. The folder may be missing."""

    def __init__(self, folder: Path) -> None:
        """Serve this folder."""
        super().__init__(directory=folder, check_dir=False)
        self._folder = folder

    def paths(self) -> tuple[str, ...]:
        """Return the paths of the files, for ``include=`` in ``deployment.py``."""
        return tuple(sorted(str(file) for file in self._folder.glob("[!.]*") if file.is_file()))

    async def index(self, scope: Scope) -> Response:
        """Return the response to ``/``: ``index.html`` or, without it, a way to ``/docs``."""
        if (self._folder / "index.html").is_file():
            return await self.get_response("index.html", scope)
        return RedirectResponse("docs")  # relative, so that it works under a proxy's path prefix

    def file_response(self, *args: Any, **options: Any) -> Response:
        """Return a file with the headers of a page."""
        response = super().file_response(*args, **options)
        response.headers.update(PAGE_HEADERS)
        return response

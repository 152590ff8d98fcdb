"""The probe at /health, and the API's documentation: /openapi.json, and the pages at /docs.

All of it is served from the app's own origin. The Swagger UI files are those in the package
``fastapi-offline``; none of its code runs.
"""

import functools
import json
import re
from base64 import b64encode
from hashlib import sha256
from html import escape
from typing import Literal

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel

from .headers import HEADERS

FILES = ("swagger-ui.css", "swagger-ui-bundle.js")
PATHS = frozenset({"/health", "/docs", "/openapi.json", *(f"/docs/{name}" for name in FILES)})
"""Paths that need no credentials: they reveal no more than the app's source code."""

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
    text, policy = _page(request.app.title)
    return Response(text, headers={"Content-Security-Policy": policy}, media_type="text/html")


@functools.lru_cache(maxsize=8)
def _page(title: str) -> tuple[bytes, str]:
    """Return Swagger UI's page and its policy: of inline scripts, only FastAPI's is allowed."""
    page = get_swagger_ui_html(
        title=escape(title),
        # Relative URLs also work under a proxy's path prefix.
        openapi_url="openapi.json",
        swagger_css_url=f"docs/{FILES[0]}",
        swagger_js_url=f"docs/{FILES[1]}",
        swagger_favicon_url="data:,",
    )
    (script,) = re.findall(rb"<script>(.+?)</script>", page.body, re.DOTALL)
    hashed = b64encode(sha256(script).digest()).decode()
    policy = HEADERS["content-security-policy"].replace("style-src", "style-src 'unsafe-inline'")
    policy = policy.replace("script-src", f"script-src 'sha256-{hashed}'")
    return bytes(page.body), policy


@router.get("/docs/{name}", include_in_schema=False)
async def file(name: Literal[FILES], request: Request) -> Response:  # type: ignore[valid-type]
    """Serve one of Swagger UI's files."""
    response = await files.get_response(name, request.scope)
    response.headers["Cache-Control"] = "public, max-age=86400"
    return response

"""What needs no credentials: the probe at /health, and the API's documentation at /docs.

The documentation is served entirely from the app's own origin. The Swagger UI files are those in
the package ``fastapi-offline``; none of its code runs.
"""

import re
from base64 import b64encode
from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from html import escape
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from starlette._utils import get_route_path  # Starlette's own routing uses it
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from .outgoing import HEADERS

FILES = ("swagger-ui.css", "swagger-ui-bundle.js")
PATHS = frozenset({"/health", "/docs", "/openapi.json", *(f"/docs/{name}" for name in FILES)})
"""They reveal no more than the app's source code."""
IS_PUBLIC = "passthrough.is_public"
"""The key of ASGI's scope for what the door has found out with `is_public`."""


def is_public(scope: Mapping[str, Any], public: Collection[str]) -> bool:
    """Tell whether a request needs no credentials.

    Paths are compared as they are routed, without the server's prefix (``uvicorn --root-path``).
    ``/page/*`` stands for each path directly below ``/page/``.
    """
    path = get_route_path(scope)  # type: ignore[arg-type]
    return path in public or f"{path.rpartition('/')[0]}/*" in public


class ExceptPublic:
    """Middleware that public requests go around."""

    def __init__(self, app: ASGIApp, middleware: Sequence[Middleware]) -> None:
        """Wrap an application; the outermost of ``middleware`` is the first."""
        self._app = self._wrapped = app
        for each, args, options in reversed(middleware):
            self._wrapped = each(self._wrapped, *args, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        await (self._app if scope.get(IS_PUBLIC) else self._wrapped)(scope, receive, send)


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
async def docs(request: Request) -> Response:
    """Serve Swagger UI, which sets inline styles. Only FastAPI's script is allowed to be inline."""
    page = get_swagger_ui_html(
        title=escape(request.app.title),
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
    page.headers["Content-Security-Policy"] = policy
    return page


@router.get("/docs/{name}", include_in_schema=False)
async def file(name: Literal[FILES], request: Request) -> Response:  # type: ignore[valid-type]
    """Serve one of Swagger UI's files."""
    response = await files.get_response(name, request.scope)
    response.headers["Cache-Control"] = "public, max-age=86400"
    return response

"""Serves public paths: the health check, the documentation, and the files of the web UI."""

from base64 import b64encode
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.types import Scope

from .headers import HEADERS

PATHS = frozenset({"/health", "/docs", "/docs/*", "/openapi.json"})
"""Paths that need no credentials, because the responses reveal no more than the source code."""
POLICY = HEADERS["content-security-policy"]
# With Trusted Types, browsers do not let scripts convert text to HTML.
PAGE_POLICY = f"{POLICY}; require-trusted-types-for 'script'; trusted-types 'none'"
DOCS_SCRIPT = """
if (matchMedia("(prefers-color-scheme: dark)").matches)
  document.documentElement.classList.add("dark-mode");
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  showExtensions: true,
  showCommonExtensions: true,
});
"""
# The URLs are relative, so that they also work under a proxy's path prefix.
DOCS = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>TITLE</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<p style="margin: 1rem; color-scheme: light dark">
<a href="." style="color: light-dark(#5a3dcb, #b3a2ff)">Back to the app</a></p>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script>{DOCS_SCRIPT}</script>
</body>
</html>
"""
_HASH = b64encode(sha256(DOCS_SCRIPT.encode()).digest()).decode()
DOCS_POLICY = POLICY.replace("script-src", f"script-src 'sha256-{_HASH}'").replace(
    "style-src", "style-src 'unsafe-inline'"
)

router = APIRouter()


@router.get("/health", summary="Is the app alive?", tags=["health"])
async def health() -> dict[str, str]:
    """Returns `ok` if the process responds. This endpoint does not call Flyte."""
    return {"status": "ok"}


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """Serve Swagger UI."""
    page = DOCS.replace("TITLE", escape(request.app.title))
    return HTMLResponse(page, headers={"Content-Security-Policy": DOCS_POLICY})


class Files(StaticFiles):
    """Serves files. Browsers cache a file, but ask the app before each use if it has changed."""

    def file_response(self, *args: Any, **options: Any) -> Response:
        """Return a file with the headers of the web UI."""
        response = super().file_response(*args, **options)
        response.headers["Cache-Control"] = "private, no-cache"
        response.headers["Content-Security-Policy"] = PAGE_POLICY
        return response


# The app uses no code of fastapi_offline, only the files.
router.mount("/docs", Files(packages=[("fastapi_offline", "static")]))


class PageFiles(Files):
    """Serves the files of a folder. The folder may be missing, and files may be added at any time.

    Example:
        app = App(settings, public={"/page/*"})
        app.mount("/page", PageFiles(Path("app/page")))
    """

    def __init__(self, folder: Path) -> None:
        """Serve the files of a folder.

        Args:
            folder: The folder. If the folder has no file for a path, the response is a 404.
        """
        super().__init__(directory=folder, check_dir=False)
        self._folder = folder

    def paths(self) -> tuple[str, ...]:
        """Return the paths of the files, sorted, for ``include=`` in ``deployment.py``."""
        return tuple(sorted(str(file) for file in self._folder.glob("[!.]*") if file.is_file()))

    async def index(self, scope: Scope) -> Response:
        """Return ``index.html``; if there is none, return a redirect to ``/docs``."""
        if (self._folder / "index.html").is_file():
            return await self.get_response("index.html", scope)
        return RedirectResponse("docs")  # a relative URL works under a proxy's path prefix

"""Serves ``/``: the page in ``app/page`` or, if that folder is deleted, the documentation.

Public: the files contain no data.
"""

import os
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from starlette.staticfiles import StaticFiles

from passthrough import HEADERS

PAGE = Path(__file__).parent.parent / "page"
KINDS = {".css", ".html", ".ico", ".jpg", ".js", ".json", ".png", ".svg", ".webp", ".woff2"}


PATHS = {"/", "/page/*"}
"""Paths that need no credentials."""


def files() -> list[Path]:
    """Return all that is served and deployed: files of known kinds, neither hidden nor links."""
    found = (file for file in PAGE.glob("[!.]*") if file.suffix in KINDS)
    return sorted(file for file in found if file.is_file() and not file.is_symlink())


PAGE_HEADERS = {
    "Cache-Control": "private, no-cache",  # cached, revalidated before each use
    # In addition to the usual policy: Trusted Types stop scripts from turning text into markup.
    "Content-Security-Policy": HEADERS["content-security-policy"]
    + "; require-trusted-types-for 'script'; trusted-types 'none'",
}


class _Files(StaticFiles):
    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        return super().lookup_path(path) if PAGE / path in files() else ("", None)

    def file_response(self, *args: Any, **options: Any) -> Response:
        response = super().file_response(*args, **options)
        response.headers.update(PAGE_HEADERS)
        return response


_served = _Files(directory=PAGE, check_dir=False)
router = APIRouter(include_in_schema=False)
router.mount("/page", _served)


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    """Serve the page."""
    if PAGE.exists():
        return await _served.get_response("index.html", request.scope)
    return RedirectResponse("docs")  # relative, so that it works under a proxy's path prefix

"""Serves ``/``: the page in ``app/page`` or, if that folder is deleted, the documentation.

Public: the files contain no data.
"""

import os
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from starlette.staticfiles import PathLike, StaticFiles
from starlette.types import Scope

from passthrough.requests.door import HEADERS

PAGE = Path(__file__).parent.parent / "page"
FILES = sorted(PAGE.glob("*"))
PATHS = {"/", *(f"/page/{file.name}" for file in FILES)}
"""Paths that need no credentials."""

PAGE_HEADERS = {
    "Cache-Control": "private, no-cache",  # cached, revalidated before each use
    # In addition to the usual policy: Trusted Types stop scripts from turning text into markup.
    "Content-Security-Policy": HEADERS["content-security-policy"]
    + "; require-trusted-types-for 'script'; trusted-types 'none'",
}


class _Files(StaticFiles):
    def file_response(
        self,
        full_path: PathLike,
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(PAGE_HEADERS)
        return response


files = _Files(directory=PAGE, check_dir=False)
router = APIRouter(include_in_schema=False)
router.mount("/page", files)


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    """Serve the page."""
    if FILES:
        return await files.get_response("index.html", request.scope)
    return RedirectResponse("docs")  # relative, so that it works under a proxy's path prefix

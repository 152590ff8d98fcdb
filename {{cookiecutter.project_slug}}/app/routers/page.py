"""Serves ``/``: the page in ``app/page`` or, if that folder is deleted, the documentation.

Public: the files contain no data.
"""

import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from starlette.staticfiles import StaticFiles

from passthrough.requests.exchange import HEADERS

PAGE = Path(__file__).parent.parent / "page"
KINDS = {".css", ".html", ".ico", ".jpg", ".js", ".json", ".png", ".svg", ".webp", ".woff2"}


def _files() -> list[Path]:
    """Return the page's files: known kinds, and none that is hidden or that git ignores."""
    files = sorted(file for file in PAGE.glob("[!.]*") if file.suffix in KINDS)
    with suppress(FileNotFoundError):  # without git, as on a cluster, which has only these files
        command = ["git", "check-ignore", "-z", "--stdin"]
        names = "\0".join(map(str, [PAGE, *files]))
        told = subprocess.run(  # noqa: S603
            command, cwd=PAGE, input=names, capture_output=True, text=True, check=False
        )
        ignored = told.stdout.split("\0")
        if str(PAGE) not in ignored:  # by a repository around the project, which says nothing
            files = [file for file in files if str(file) not in ignored]
    return files


FILES = _files()
"""All that is served and deployed. A new file is served after a restart."""
PATHS = {"/", *(f"/page/{file.name}" for file in FILES)}
"""Paths that need no credentials."""

PAGE_HEADERS = {
    "Cache-Control": "private, no-cache",  # cached, revalidated before each use
    # In addition to the usual policy: Trusted Types stop scripts from turning text into markup.
    "Content-Security-Policy": HEADERS["content-security-policy"]
    + "; require-trusted-types-for 'script'; trusted-types 'none'",
}


class _Files(StaticFiles):
    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        return super().lookup_path(path) if PAGE / path in FILES else ("", None)

    def file_response(self, *args: Any, **options: Any) -> Response:
        response = super().file_response(*args, **options)
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

"""A folder with the files of a web page: public, read-only, and deployed with the app."""

import os
from pathlib import Path
from typing import Any

from starlette.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from .http.exchange import HEADERS

KINDS = {".css", ".html", ".ico", ".jpg", ".js", ".json", ".png", ".svg", ".webp", ".woff2"}
PAGE_HEADERS = {
    "Cache-Control": "private, no-cache",  # cached, revalidated before each use
    # In addition to the usual policy: Trusted Types stop scripts from turning text into markup.
    "Content-Security-Policy": HEADERS["content-security-policy"]
    + "; require-trusted-types-for 'script'; trusted-types 'none'",
}


class PageFiles(StaticFiles):
    """Serves the files of a folder that are of the kinds in `KINDS`, neither hidden nor links.

    A file that is added later is served, too. The folder may be missing.
    """

    def __init__(self, folder: Path) -> None:
        """Serve this folder, without its subfolders."""
        super().__init__(directory=folder, check_dir=False)
        self._folder = folder

    def paths(self) -> tuple[str, ...]:
        """Return the paths of the files, for ``include=`` in ``deployment.py``."""
        found = (file for file in self._folder.glob("[!.]*") if file.suffix in KINDS)
        return tuple(sorted(str(f) for f in found if f.is_file() and not f.is_symlink()))

    async def index(self, scope: Scope) -> Response:
        """Return the response to ``/``: ``index.html`` or, without it, a way to ``/docs``."""
        if str(self._folder / "index.html") in self.paths():
            return await self.get_response("index.html", scope)
        return RedirectResponse("docs")  # relative, so that it works under a proxy's path prefix

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """Find a file; the same as Starlette's, but for the files that are not served."""
        is_served = str(self._folder / path) in self.paths()
        return super().lookup_path(path) if is_served else ("", None)

    def file_response(self, *args: Any, **options: Any) -> Response:
        """Return a file with the headers of a page."""
        response = super().file_response(*args, **options)
        response.headers.update(PAGE_HEADERS)
        return response

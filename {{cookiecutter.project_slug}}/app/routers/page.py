"""Serves the web UI in ``app/page`` at ``/``.

If this folder has no ``index.html``, ``/`` leads to ``/docs``. The files are public, because they
contain no data.
"""

from pathlib import Path

from fastapi import APIRouter, Request, Response

from passthrough import PageFiles

from ..settings import Settings

FILES = PageFiles(Path(__file__).parent.parent / "page")
PATHS = {"/", "/page/*"}
"""Paths that clients may read without credentials."""

router = APIRouter(include_in_schema=False)


@router.get("/page/limits.json")
async def limits() -> dict[str, int]:
    """Return the limits that the web UI checks before it sends a request."""
    return {"max_upload_bytes": Settings.limits.max_upload_bytes}


router.mount("/page", FILES)


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    """Serve the web UI."""
    return await FILES.index(request.scope)

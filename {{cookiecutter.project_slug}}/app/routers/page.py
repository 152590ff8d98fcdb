"""Serves ``/``: the page in ``app/page`` or, without its ``index.html``, the documentation.

Public: the files contain no data.
"""

from pathlib import Path

from fastapi import APIRouter, Request, Response

from passthrough import PageFiles

FILES = PageFiles(Path(__file__).parent.parent / "page")
PATHS = {"/", "/page/*"}
"""Paths that need no credentials."""

router = APIRouter(include_in_schema=False)
router.mount("/page", FILES)


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    """Serve the page."""
    return await FILES.index(request.scope)

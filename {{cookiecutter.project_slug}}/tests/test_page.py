"""The page at /: harmless public files. Their data comes from the API."""

import re
from pathlib import Path

import httpx

from app.routers.page import FILES


def test_anybody_may_load_the_page_and_its_files(anonymous: httpx.Client) -> None:
    page = anonymous.get("/")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    wanted = set(re.findall(r'(?:src|href)="(page/[^"]+)"', page.text))
    while wanted:
        response = anonymous.get(f"/{(path := wanted.pop())}")
        assert response.status_code == 200, path
        wanted |= {f"page/{name}" for name in re.findall(r'from "\./(.+)";', response.text)}


def test_the_page_runs_only_its_own_scripts_and_cannot_be_framed(anonymous: httpx.Client) -> None:
    for path in ("/", *(f"/page/{Path(file).name}" for file in FILES.paths())):
        response = anonymous.get(path)
        policy = response.headers["Content-Security-Policy"].split("; ")
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "style-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "require-trusted-types-for 'script'" in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "private, no-cache"


def test_other_files_are_not_found_and_the_pages_files_are_read_only(alice: httpx.Client) -> None:
    for path in ("/page", "/page/", "/page/none.js", "/page/../main.py", "/page/%2e%2e/main.py"):
        assert alice.get(path).status_code == 404, path
    assert alice.post("/page/main.js").status_code == 405

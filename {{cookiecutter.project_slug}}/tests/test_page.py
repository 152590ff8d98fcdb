"""Tests of the files of the web UI at /. The files are public; all data comes from the API."""

import re
from pathlib import Path

import httpx

from app.routers.page import FILES
from app.settings import Settings


def test_web_ui_loads_without_credentials(anonymous: httpx.Client) -> None:
    page = anonymous.get("/")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    paths = set(re.findall(r'(?:src|href)="(page/[^"]+)"', page.text))
    while paths:
        response = anonymous.get(f"/{(path := paths.pop())}")
        assert response.status_code == 200, path
        paths |= {f"page/{name}" for name in re.findall(r'from "\./(.+)";', response.text)}


def test_web_ui_has_content_security_policy(anonymous: httpx.Client) -> None:
    """The policy allows no other scripts, and no frames."""
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


def test_web_ui_serves_only_its_own_files(alice: httpx.Client) -> None:
    """The files are read-only."""
    for path in ("/page", "/page/", "/page/none.js", "/page/../main.py", "/page/%2e%2e/main.py"):
        assert alice.get(path).status_code == 404, path
    assert alice.post("/page/main.js").status_code == 405


def test_web_ui_has_upload_limit_of_app(anonymous: httpx.Client) -> None:
    limits = anonymous.get("/page/limits.json").json()
    assert limits == {"max_upload_bytes": Settings.limits.max_upload_bytes}

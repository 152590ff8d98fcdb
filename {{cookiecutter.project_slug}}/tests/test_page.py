"""The page at /: harmless public files. Their data comes from the API."""

import re

import httpx

from app.routers.page import FILES


def test_anybody_may_load_the_page_and_all_that_it_refers_to(anonymous: httpx.Client) -> None:
    page = anonymous.get("/")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    wanted = set(re.findall(r'(?:src|href)="(page/[^"]+)"', page.text))
    while wanted:
        response = anonymous.get(f"/{(path := wanted.pop())}")
        assert response.status_code == 200, path
        wanted |= {f"page/{name}" for name in re.findall(r'from "\./(.+)";', response.text)}


def test_the_page_can_run_its_own_scripts_only_and_be_framed_by_nobody(
    anonymous: httpx.Client,
) -> None:
    for path in ("/", *(f"/page/{file.name}" for file in FILES)):
        response = anonymous.get(path)
        policy = response.headers["Content-Security-Policy"].split("; ")
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "style-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "require-trusted-types-for 'script'" in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "private, no-cache"


def test_what_is_no_file_of_the_page_is_not_found_and_is_not_changed(alice: httpx.Client) -> None:
    for path in ("/page", "/page/", "/page/none.js", "/page/../main.py", "/page/%2e%2e/main.py"):
        assert alice.get(path).status_code == 404, path
    assert alice.post("/page/main.js").status_code == 405

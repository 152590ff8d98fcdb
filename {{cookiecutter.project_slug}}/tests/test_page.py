"""The page at /: files for everybody, which can do no harm. What they show comes from the API."""

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


def test_no_script_of_the_page_can_make_markup_of_text() -> None:
    makes_markup = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|parseFrom"
    )
    for file in FILES:
        text = file.read_text("utf-8")
        assert not makes_markup.search(text), file.name
        assert not re.search(r"<script(?! type=\"module\" src=)|<style|\sstyle=|\son\w+=\"", text)


def test_a_browser_keeps_the_page_and_asks_whether_it_is_still_right(
    anonymous: httpx.Client,
) -> None:
    for path in ("/", "/page/main.js"):
        first = anonymous.get(path)
        assert first.headers["Cache-Control"] == "private, no-cache"
        again = anonymous.get(path, headers={"If-None-Match": first.headers["ETag"]})
        assert again.status_code == 304


def test_what_is_no_file_of_the_page_is_not_found_and_is_not_changed(alice: httpx.Client) -> None:
    for path in ("/page", "/page/", "/page/none.js", "/page/../main.py", "/page/%2e%2e/main.py"):
        assert alice.get(path).status_code == 404, path
    assert alice.post("/page/main.js").status_code == 405

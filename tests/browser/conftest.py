"""Fixtures to view the generated app's page in the machine's Chromium."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import get_chromium
import httpx
import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright
from template import ROOT

from local_flyte import sign_in
from local_flyte.testing import client_of

from ..served import SECRET, App
from .page_fixtures import TYPES, Visit, go

# A new process for each page takes a quarter of the CPU.
FLAGS = ["--disable-gpu", "--renderer-process-limit=1"]

FILES = ROOT / "{{cookiecutter.project_slug}}" / "app" / "page"
EMPTY = "<!doctype html><link rel=stylesheet href=/style.css><main></main>"

expect.set_options(timeout=120_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all of these tests as slow, and skip them if there is no browser."""
    here = Path(__file__).parent
    missing = pytest.mark.skip(reason="there is no Chromium: install it, or set CHROMIUM")
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.slow)
            if not get_chromium.find():
                item.add_marker(missing)


@pytest.fixture(autouse=True)
def _clean(request: pytest.FixtureRequest) -> None:
    """Abort the runs of other tests, which would slow this one down."""
    if "flyte" in request.fixturenames:
        request.getfixturevalue("flyte").reset()


@pytest.fixture(scope="package")  # no longer: an event loop runs in this thread meanwhile
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=get_chromium.find(), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, app: App) -> Iterator[Visit]:
    """Open a browser window as someone: ``visit("alice", "tasks")``."""
    pages: list[Page] = []
    complaints: list[str] = []

    def visit(name: str | None, view: str | None = None, **options: Any) -> Page:
        settings = {"locale": "en-GB", "timezone_id": "Europe/Berlin", **options}
        context = browser.new_context(base_url=app.url, **settings)
        context.set_default_timeout(120_000)
        if name:  # without the page that it leads to, which takes longer than most tests
            answer = context.request.get(sign_in.link(app.url, name, SECRET), max_redirects=0)
            assert answer.headers["location"] == "/"
        pages.append(page := context.new_page())
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        if view is not None:
            go(page, view)
        return page

    yield visit
    for page in pages:
        page.context.close()
    assert complaints == []


@pytest.fixture
def api(app: App) -> Iterator[httpx.Client]:
    with client_of(app.url, "alice") as client:
        yield client


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    """A page with the app's files, and nothing else on it."""

    def serve(route: Route) -> None:
        file = FILES / route.request.url.rpartition("/")[2]
        if file.is_file():
            route.fulfill(path=file, content_type=TYPES[file.suffix])
        else:
            route.fulfill(body=EMPTY, content_type="text/html")

    errors: list[str] = []
    with browser.new_context() as context:
        context.route("**/*", serve)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto("http://form.example/")
        page.evaluate("addEventListener('submit', (event) => event.preventDefault())")
        yield page
    assert errors == []

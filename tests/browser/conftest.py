"""The generated app on a local Flyte, and the machine's Chromium to look at its page with."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import get_chromium
import httpx
import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from local_flyte import PEOPLE, LocalFlyte, sign_in

from .visiting import SECRET, App, Visitors

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

expect.set_options(timeout=20_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this is slow, and needs a browser."""
    here = Path(__file__).parent
    missing = pytest.mark.skip(reason="there is no Chromium on this machine")
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.slow)
            if not get_chromium.find():
                item.add_marker(missing)


@pytest.fixture(scope="session")
def flyte() -> Iterator[LocalFlyte]:
    """A local Flyte, on which the tasks of these tests are deployed."""
    with LocalFlyte() as local_flyte:
        local_flyte.deploy(Path(__file__).parent, "page_tasks.py", "env")
        yield local_flyte


@pytest.fixture(autouse=True)
def _clean(request: pytest.FixtureRequest) -> Iterator[None]:
    """End what a test has started, so that the next one has the machine for itself."""
    flyte = request.getfixturevalue("flyte") if "flyte" in request.fixturenames else None
    yield
    if flyte:
        flyte.reset()


@pytest.fixture(scope="session")
def serve(default_project: Path, environment: Path) -> Callable[[dict[str, str]], App]:
    """Make an app of the default project, with the packages that it asks for."""
    inherited = {name: value for name, value in os.environ.items() if name.isupper()}

    def serve(variables: dict[str, str]) -> App:
        return App(default_project, environment / "bin" / "python", inherited | variables)

    return serve


@pytest.fixture(scope="session")
def app(flyte: LocalFlyte, serve: Callable[[dict[str, str]], App]) -> Iterator[App]:
    """The app on the local Flyte."""
    variables = flyte.app_environment() | sign_in.environment(PEOPLE.values(), SECRET)
    with contextlib.closing(serve(variables)) as app:
        app.start()
        yield app


@pytest.fixture(scope="package")  # no longer: an event loop runs in this thread meanwhile
def browser() -> Iterator[Browser]:
    """The machine's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=get_chromium.find(), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, app: App) -> Iterator[Visitors]:
    """Open a browser window as someone: ``visit("alice")``."""
    visitors = Visitors(browser, app)
    yield visitors
    assert visitors.close() == []


@pytest.fixture
def api(app: App) -> Iterator[httpx.Client]:
    """The API, called by alice without a browser."""
    headers = {"Authorization": f"Bearer {PEOPLE['alice'].token}"}
    with httpx.Client(base_url=app.url, headers=headers, trust_env=False, timeout=60) as client:
        yield client

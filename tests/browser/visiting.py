"""The generated app in a process of its own, people who visit its page, and runs to look at."""

import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from playwright.sync_api import Browser, BrowserContext, Page

from local_flyte import sign_in

SECRET = "only-for-this-test"
TASKS = "page-tests"
"""What the names of the tasks in page_tasks.py begin with."""


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for a condition, and fail if it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} seconds"
        time.sleep(0.02)


class App:
    """The app, as ``python -m local_flyte`` would serve it, in a process that can be ended."""

    def __init__(self, project: Path, python: Path, environment: dict[str, str]) -> None:
        # Kept open while the app is away: who asks meanwhile waits, and the address stays.
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._project = project
        self._python = python
        self._environment = environment

    def start(self) -> None:
        """Start it; return when it answers."""
        command = [
            str(self._python),
            "-m",
            "uvicorn",
            "--factory",
            f"{sign_in.__name__}:create_app",
        ]
        self._process = subprocess.Popen(
            [*command, "--fd", str(self._listener.fileno()), "--log-level", "warning"],
            cwd=self._project,
            env=self._environment,
            pass_fds=[self._listener.fileno()],
        )
        wait_until(lambda: self._process.poll() is not None or self._answers())
        assert self._process.poll() is None, "the app has ended"

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", trust_env=False, timeout=1).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        """End it, as a crash would."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End it, and give its address back."""
        self._listener.close()
        self.stop()


class Visitor:
    """Someone with a browser window of their own, in which nothing may go wrong unnoticed."""

    def __init__(self, context: BrowserContext, app: App, name: str | None) -> None:
        self.page: Page = context.new_page()
        self.app = app
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        if name:
            self.page.goto(sign_in.link(app.url, name, SECRET))
            assert self.page.url == f"{app.url}/"

    def go(self, path: str = "") -> Page:
        """Open a place of the page, as a link to it would."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.app.url}/#/{path}")
        return self.page


class Visitors:
    """Opens browser windows, and closes them all."""

    def __init__(self, browser: Browser, app: App) -> None:
        self._browser = browser
        self._app = app
        self._opened: list[Visitor] = []

    def __call__(self, name: str | None, **options: object) -> Visitor:
        """Open a window as a person, or as nobody; options are those of a browser context."""
        settings = {"locale": "en-GB", "timezone_id": "Europe/Berlin", **options}
        visitor = Visitor(self._browser.new_context(**settings), self._app, name)  # type: ignore[arg-type]
        self._opened.append(visitor)
        return visitor

    def close(self) -> list[str]:
        """Close the windows, and return what went wrong in them."""
        for visitor in self._opened:
            visitor.page.context.close()
        return [complaint for visitor in self._opened for complaint in visitor.complaints]


def started(api: httpx.Client, task: str, **inputs: object) -> str:
    """Start a run, and return its name."""
    response = api.post(f"/tasks/{TASKS}.{task}/runs", json={"inputs": inputs})
    assert response.status_code == 201, response.text
    name: str = response.json()["name"]
    return name


def finished(api: httpx.Client, name: str) -> str:
    """Wait for the end of a run, and return its phase."""
    with api.stream("GET", f"/runs/{name}/events") as response:
        response.read()
    phase: str = api.get(f"/runs/{name}").json()["phase"]
    return phase

"""Visitors of the generated app's page, and runs for them to view."""

import json
from typing import Any

import httpx
from playwright.sync_api import Browser, BrowserContext, Page

from local_flyte import sign_in

from ..served import SECRET, TASKS, App


class Visitor:
    """A person with their own browser window; any error in it fails the test."""

    def __init__(self, context: BrowserContext, app: App, name: str | None) -> None:
        context.set_default_timeout(120_000)
        self.page: Page = context.new_page()
        self.app = app
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        if name:  # without the page that it leads to, which takes longer than most tests
            answer = context.request.get(sign_in.link(app.url, name, SECRET), max_redirects=0)
            assert answer.headers["location"] == "/"

    def go(self, path: str = "") -> Page:
        """Open a view of the page, as a link to it would."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.app.url}/#/{path}")
        return self.page


def look_again(page: Page) -> None:
    """Do what a browser does when its user returns to the tab: a headless one has no tabs."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def send_actions(page: Page, *actions: dict[str, Any]) -> None:
    """Let the page get these actions instead of a run's own; the first one is the root."""
    default = dict.fromkeys(("parent", "group", "started_at", "ended_at", "error", "condition"))
    default |= {"type": "task", "phase": "succeeded", "attempts": 1, "cached": False}
    default |= {"phases": [], "events": [], "has_report": False}
    sent = []
    for number, action in enumerate(actions):
        name = {"name": f"a{number}", "title": f"action {number}", "task": "x.y"}
        sent.append(json.dumps(default | name | {"parent": "a0" if number else None} | action))
    body = "".join(f"event: action\ndata: {each}\n\n" for each in sent)
    page.route(
        "**/actions/events*",
        lambda route: route.fulfill(body=body, content_type="text/event-stream"),
    )


# The page's own scripts get what the app would send, in parts, as fast as they take it; meanwhile
# it is noted how long the browser can do nothing else.
_STREAM = """(path, parts) => {
    const real = window.fetch;
    window.fetch = (url, options) => {
        if (!String(url).includes(path)) return real(url, options);
        const texts = window.sent ? [].values() : parts(); // all of it, once
        const pull = (stream) => {
            const { value, done } = texts.next();
            if (!done) stream.enqueue(new TextEncoder().encode(value));
            else (stream.close(), window.sent = true);
        };
        return Promise.resolve(new Response(new ReadableStream({ pull }, { highWaterMark: 0 })));
    };
    let before = performance.now();
    window.longest = 0;
    setInterval(() => {
        const now = performance.now();
        window.longest = Math.max(window.longest, now - before);
        before = now;
    });
}"""


def stream(page: Page, path: str, parts: str) -> None:
    """Let the page get a stream from this generator in JavaScript, instead of the app's."""
    page.add_init_script(f"({_STREAM})({json.dumps(path)}, {parts})")


class Visitors:
    """Opens browser windows, and closes them all."""

    def __init__(self, browser: Browser, app: App) -> None:
        self._browser = browser
        self._app = app
        self._opened: list[Visitor] = []

    def __call__(self, name: str | None, **options: object) -> Visitor:
        """Open a window as a person, or anonymously; options are those of a browser context."""
        settings = {
            "locale": "en-GB",
            "timezone_id": "Europe/Berlin",
            **options,
        }
        visitor = Visitor(self._browser.new_context(**settings), self._app, name)  # type: ignore[arg-type]
        self._opened.append(visitor)
        return visitor

    def close(self) -> list[str]:
        """Close the windows, and return the errors in them."""
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


def log_lines(page: Page) -> list[str]:
    """Return the task's lines in the log on the page."""
    shown = page.get_by_role("log").evaluate("log => log.textContent").splitlines()
    return [line for line in shown if not line.startswith("[flyte]")]

"""Visitors of the generated app's page, and runs for them to view."""

import json
from collections.abc import Callable
from typing import Any

import httpx
from playwright.sync_api import Page

from ..served import TASKS

MARKUP = (
    "<img src=x onerror=alert(1)><script>alert(2)</script><svg onload=alert(3)>"
    "<a href=javascript:alert(4)>x</a>\"'><iframe srcdoc='<script>parent.alert(5)</script>'>"
    "{{ 7 * 7 }}${alert(6)}\u202ereversed"
)

TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html"}

Visit = Callable[..., Page]
"""Opens a window, as a person or anonymously, and a view; an error in it fails the test."""


def go(page: Page, view: str = "") -> None:
    """Open a view of the page, as a link to it would."""
    page.goto("about:blank")
    page.goto(f"/#/{view}")


def look_again(page: Page) -> None:
    """Do what a browser does when its user returns to the tab: a headless one has no tabs."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def action(number: int, **facts: Any) -> dict[str, Any]:
    """Return an action as the API does, by default the root, or one of its children."""
    action = dict.fromkeys(("group", "started_at", "ended_at", "error", "condition"))
    action |= {"type": "task", "phase": "succeeded", "attempts": 1, "cached": False, "phases": []}
    action |= {"events": [], "has_report": False, "name": f"a{number}", "title": f"a{number}"}
    return action | {"task": "x.y", "parent": "a0" if number else None} | facts


def send_actions(page: Page, *actions: dict[str, Any], ends: str = "") -> None:
    """Let the page get these actions, the root first, and a last event instead of a run's own."""
    events = (json.dumps(action(number, **facts)) for number, facts in enumerate(actions))
    body = "".join(f"event: action\ndata: {event}\n\n" for event in events)
    page.route(
        "**/actions/events*",
        lambda route: route.fulfill(body=body + ends, content_type="text/event-stream"),
    )


def make(page: Page, script: str, *given: object) -> None:
    """Show what a function in JavaScript makes of the modules and these values."""
    page.evaluate(
        f"""async (given) => {{
            const files = ["actions", "api", "dom", "form", "names", "questions", "runs", "values"];
            const modules = await Promise.all(files.map((file) => import(`/${{file}}.js`)));
            const made = ({script})(Object.assign({{}}, ...modules), ...given);
            document.querySelector("main").replaceChildren(...[made].flat());
        }}""",
        given,
    )


def condition(name: str, **facts: object) -> dict[str, Any]:
    """Return a condition as the API does, by default one that waits for Yes or No."""
    unknown = dict.fromkeys(("asked_at", "description", "answered_at", "answered_by", "value"))
    base = {"run": "r", "action": name, "name": name, "prompt": name, "prompt_truncated": False}
    return {**unknown, **base, "phase": "paused", "type": "boolean", **facts}


def started(api: httpx.Client, task: str, **inputs: object) -> str:
    response = api.post(f"/tasks/{TASKS}.{task}/runs", json={"inputs": inputs})
    assert response.status_code == 201, response.text
    name: str = response.json()["name"]
    return name


def finished(api: httpx.Client, name: str) -> str:
    api.get(f"/runs/{name}/events")
    phase: str = api.get(f"/runs/{name}").json()["phase"]
    return phase


def check_harmless(page: Page) -> None:
    """Require that no text has become markup, or is wider than the window."""
    made = page.locator("main").locator("img, script, svg, iframe, [onerror], [href^=javascript]")
    assert made.count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

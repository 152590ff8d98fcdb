"""The page's appearance: at each width, in both colour schemes, and for screen readers."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect
from template import ROOT

from local_flyte import LocalFlyte, sign_in

from ..served import SECRET, TASKS
from .visiting import Visit, finished, send_actions, started

SCREENSHOTS = ROOT / "screenshots"
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
PHONE = {"width": 320, "height": 640}  # a narrow one
DESKTOP = {"width": 1280, "height": 800}
HEAVIEST = 90_000  # bytes, of all files of the page together
LOOKS = [
    pytest.param(PHONE, "dark", id="phone-dark"),
    pytest.param(DESKTOP, "light", id="desktop-light", marks=pytest.mark.weekly),
]


def faults(page: Page) -> list[str]:
    """Return axe-core's findings, one per line."""
    page.evaluate(AXE)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations', 'incomplete']})")
    return [
        f"{rule['id']}: {rule['help']}: {node['html']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


def at(second: float) -> str:
    """Return a time of the run that is shown below."""
    return f"2026-01-31T09:30:{second:09.6f}Z"


def spent(attempt: int, *seconds: float) -> list[dict[str, Any]]:
    """Return an attempt's phases, which began at these seconds; the last one is the end."""
    names = ["queued", "initializing", "running"]
    return [
        {"attempt": attempt, "phase": phase, "started_at": at(start), "ended_at": at(end)}
        for phase, start, end in zip(names, seconds, seconds[1:], strict=False)
    ]


EVENT = {"message": "Back-off pulling image", "count": 5, "last_at": at(40)}
WAITING = {"attempt": 1, "phase": "queued", "started_at": at(45), "ended_at": None}
TIMED: list[dict[str, Any]] = [
    {"phase": "failed", "error": "no memory", "phases": spent(1, 0.4, 5, 9, 50)},
    {"cached": True, "started_at": at(10), "ended_at": at(10)},
    {"phase": "recovered", "started_at": at(10), "ended_at": at(10)},
    {
        "phase": "failed",
        "attempts": 2,
        "error": "out of memory",
        "group": "folds",
        "phases": [*spent(1, 12, 15, 20, 30), *spent(2, 30, 36, 37, 45)],
        "events": [EVENT],
    },
    {"type": "condition", "started_at": at(0), "ended_at": at(8)},
    {"phase": "queued", "phases": [WAITING], "events": [EVENT | {"count": 1}]},
]


class Album:
    """Takes pictures of the page's views, and collects their faults."""

    def __init__(self, page: Page, name: str) -> None:
        self.page, self.name = page, name
        self.faults: dict[str, list[str]] = {}

    def add(self, place: str) -> None:
        """Take a picture of the current view and check it."""
        self.page.screenshot(path=SCREENSHOTS / f"{place}-{self.name}.png")
        self.faults[place] = faults(self.page)
        if wide := self.page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            self.faults[place].append(f"wider than the window: {wide}")


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_every_view_is_accessible_and_fits_every_screen(
    size: dict[str, int],
    scheme: str,
    *,
    flyte: LocalFlyte,
    visit: Visit,
    api: httpx.Client,
    request: pytest.FixtureRequest,
) -> None:
    failed, ended = started(api, "count", to=0), started(api, "report")
    finished(api, failed)
    finished(api, ended)
    running = started(api, "count", to=6000)
    visitor = visit("alice", viewport=size, color_scheme=scheme)
    page = visitor.go("tasks")
    album = Album(page, request.node.callspec.id)

    expect(page.get_by_role("link", name=f"{TASKS}.greet")).to_be_visible()
    expect(page.get_by_role("group", name="Who you are")).to_contain_text("Alice Adams")
    album.add("tasks")
    visitor.go(f"tasks/{TASKS}.survey")
    page.get_by_role("button", name="Run").click()
    page.get_by_role("button", name="Add item").click()
    page.get_by_role("button", name="Add entry").click()
    album.add("form")
    visitor.go(f"tasks/{TASKS}.count_lines")
    page.locator("[type=file]").first.set_input_files(__file__)
    expect(page.get_by_text("Uploaded.")).to_be_visible()
    album.add("files")
    visitor.go("runs")
    expect(page.get_by_role("listitem").filter(has_text=running)).to_contain_text("Running")
    album.add("runs")
    visitor.go(f"runs/{running}")
    expect(page.get_by_role("log")).to_contain_text("3 of 6000")
    album.add("run-running")
    page.get_by_role("button", name="Abort").click()
    album.add("abort")
    page.get_by_role("button", name="Let it run").click()
    visitor.go(f"runs/{ended}")
    expect(page.get_by_role("table").get_by_role("row")).to_have_count(3)
    expect(page.get_by_role("region", name="Outputs")).to_contain_text("s3://bucket/towns.csv")
    album.add("run-succeeded")
    visitor.go(f"runs/{failed}")
    expect(page.get_by_role("region", name="Error")).to_be_visible()
    album.add("run-failed")
    send_actions(page, *TIMED, *[{"phases": spent(1, 10, 11, 12, 15)}] * 40)
    visitor.go(f"runs/{failed}")
    tree = page.get_by_role("region", name="Actions")
    bars = tree.locator("li .bar > .unseen")
    first, second = (
        "Queued 3.0 s, Initializing 5.0 s, Running 10 s",
        "Queued 6.0 s, Initializing 1.0 s",
    )
    expect(bars.nth(3)).to_have_text(f"{first}, Attempt 2: {second}, Running 8.0 s")
    expect(bars.nth(2)).to_have_text("Has not run")
    expect(bars.nth(4)).to_have_text("Waiting for an answer 7.6 s")  # rounded
    expect(bars).to_have_count(46)
    widths = "bar => [...bar.querySelectorAll('i')].map(i => i.offsetWidth / bar.offsetWidth)"
    shares = tree.locator("li .bar").nth(3).evaluate(widths)
    assert [round(50 * share) for share in shares] == [3, 5, 10, 6, 1, 8]  # of 50 seconds
    expect(tree).to_contain_text("Back-off pulling image (seen 5 times)")
    expect(tree).to_contain_text("from the cache")
    album.add("run-bars")
    page.unroute_all()
    asking = started(api, "ask")
    visitor.go(f"runs/{asking}")
    expect(page.get_by_role("region", name="Actions").get_by_role("listitem")).to_have_count(2)
    page.get_by_role("button", name="Send the answer").click()
    album.add("run-asking")
    visitor.go("runs")
    expect(page.get_by_role("region", name="Waiting for an answer")).to_be_visible()
    album.add("waiting")
    flyte.reset()
    visitor.go("runs")
    expect(page.get_by_text("You have run nothing here yet.")).to_be_visible()
    album.add("empty")
    for name in ("victor", "carol", None):
        other = visit(name, viewport=size, color_scheme=scheme)
        album.page = other.go("tasks/page-tests.greet" if name == "victor" else "tasks")
        if name == "victor":
            album.page.get_by_label("name").fill("Victor")
            album.page.get_by_role("button", name="Run").click()
        expect(album.page.get_by_role("alert").first).to_be_visible()
        album.add(name or "nobody")
    album.page.goto(f"{visitor.app.url}/sign-in")
    album.add("sign-in-refused")
    album.page.goto(sign_in.choice(visitor.app.url, SECRET))
    album.add("sign-in")
    (SCREENSHOTS / f"axe-{album.name}.json").write_text(json.dumps(album.faults, indent=1), "utf-8")
    assert {place: found for place, found in album.faults.items() if found} == {}


def test_the_documentation_of_the_api_is_shown(visit: Visit) -> None:
    visitor = visit("alice")
    page = visitor.page
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.goto(f"{visitor.app.url}/docs")
    expect(page.locator(".opblock-summary").first).to_be_visible()
    expect(page.get_by_role("button", name="Authorize")).to_be_visible()
    page.screenshot(path=SCREENSHOTS / "docs.png")
    assert problems == []


def test_the_page_is_light(default_project: Path) -> None:
    sizes = [path.stat().st_size for path in (default_project / "app" / "page").iterdir()]
    assert sum(sizes) <= HEAVIEST, f"{sum(sizes)} bytes"

"""The page's appearance: at each width, in both colour schemes, and for screen readers."""

from importlib.resources import files

import httpx
import pytest
from openapi_spec_validator import validate
from playwright.sync_api import Page, expect
from template import ROOT

from local_flyte import LocalFlyte, sign_in

from ..served import SECRET, TASKS, App
from .page_fixtures import Visit, go, make, started

SCREENSHOTS = ROOT / "screenshots"
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
DARK = "rgb(28, 32, 34)"
LOOKS = [
    pytest.param(320, "dark", id="phone-dark"),  # a narrow one
    pytest.param(1280, "light", id="desktop-light", marks=pytest.mark.weekly),
    pytest.param(375, "light", id="phone-light", marks=pytest.mark.weekly),
    pytest.param(1200, "dark", id="desktop-dark", marks=pytest.mark.weekly),
]


def faults(page: Page) -> list[str]:
    """Return axe-core's findings, and whether the view is too wide."""
    results = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
    return ["wider than the window"] * wide + [
        f"{rule['id']}: {rule['help']}: {node['html']}"
        for rule in results["violations"]
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_every_view_is_accessible_and_fits_the_width(
    width: int, scheme: str, *, flyte: LocalFlyte, app: App, visit: Visit, api: httpx.Client
) -> None:
    ended, running = started(api, "report"), started(api, "count", to=6000)
    started(api, "ask")
    looks = {"viewport": {"width": width, "height": 640}, "color_scheme": scheme}
    faults_by_view: dict[str, list[str]] = {}

    def open_as(name: str | None) -> Page:
        page = visit(name, **looks)
        page.add_init_script(AXE)
        go(page)
        return page

    def look(place: str, view: str | None = None, *texts: str) -> None:
        """Take a picture of the present view or another one, once it shows these, and check it."""
        if view is not None:
            page.evaluate("(view) => { location.hash = `#/${view}` }", view)
        for text in texts:
            expect(page.locator("main")).to_contain_text(text)
        page.screenshot(path=SCREENSHOTS / f"{place}-{width}-{scheme}.png")
        faults_by_view[place] = faults(page)

    page = open_as("alice")
    look("unknown", "nonsense", "Page not found")
    page.get_by_role("link", name="See all tasks").click()
    look("tasks", None, f"{TASKS}.greet")
    page.get_by_role("link", name=f"{TASKS}.survey").click()
    for name in ("Run", "Add item", "Add entry"):
        page.get_by_role("button", name=name).click()
    source = page.get_by_role("group", name="source")
    source.get_by_label("Kind of value").select_option("file")
    source.locator("[type=file]").set_input_files(__file__)
    look("form", None, "A value is required", "Uploaded.")
    page.get_by_role("link", name="Runs").first.click()
    page.get_by_role("button", name="Send the answer").click()
    look("runs", None, running, "Running", "Waiting for an answer (1)", "How many?", "is required")
    look("run-running", f"runs/{running}", "3 of 6000")
    page.get_by_role("button", name="Abort").click()
    look("abort")
    look("run-succeeded", f"runs/{ended}", "Berlin", "s3://bucket/towns.csv")
    expect(page.locator(".legend > span")).to_have_text(["queued", "initializing", "running"])
    flyte.reset()
    look("empty", "runs", "You have run nothing here yet.")
    page = open_as("carol")
    look("carol", "tasks", "Flyte does not let you do this")
    page = open_as(None)
    look("nobody", "tasks", "You are not signed in")
    page.goto("/sign-in")
    look("sign-in-refused")
    page.goto(sign_in.choice(app.url, SECRET))
    look("sign-in")
    assert {place: some for place, some in faults_by_view.items() if some} == {}


def test_api_page_is_valid_and_supports_dark_mode(visit: Visit, api: httpx.Client) -> None:
    validate(api.get("/openapi.json").json())
    page = visit("alice")
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.goto("/docs")
    expect(page.locator(".opblock-summary").first).to_be_visible()
    expect(page.get_by_role("button", name="Authorize")).to_be_visible()
    page.screenshot(path=SCREENSHOTS / "docs.png")
    assert problems == []
    page = visit("alice", color_scheme="dark")
    page.goto("/docs")
    expect(page.locator(".opblock-summary").first).to_be_visible()
    page.screenshot(path=SCREENSHOTS / "docs-dark.png")
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == DARK
    page.get_by_role("link", name="Back to the app").click()
    expect(page.get_by_role("link", name=f"{TASKS}.greet")).to_be_visible()


def test_empty_div_with_developer_styles_is_visible(page: Page) -> None:
    make(page, "({ h }) => h('div.chart')")
    page.add_style_tag(content=".chart { height: 9px }")
    expect(page.locator(".chart")).to_be_visible()

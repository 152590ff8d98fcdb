"""Updates of a view leave focus, selection and scroll position as they are; without an app."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from .page_fixtures import action, look_again, make

VIEW = """({ runsView }) => {
    const view = document.createElement("div");
    window.leaving?.abort();
    window.leaving = new AbortController();
    runsView(view, { query: {}, signal: leaving.signal });
    return view;
}"""
TREE = """({ actionsPanel }, actions) => {
    window.panel = actionsPanel(() => {});
    panel.draw(actions);
    return panel.node;
}"""
DRAW = "(actions) => panel.draw(actions)"
SELECT = "node => getSelection().selectAllChildren(node)"
SELECTED = "getSelection().toString()"


def run(name: str, phase: str = "succeeded") -> dict[str, Any]:
    run = dict.fromkeys(("executed_by", "ended_at", "error"), None)
    return run | {"name": name, "phase": phase, "task": f"x.{name}", "started_at": "2026-01-31"}


class Runs:
    """The list of runs of a Flyte that does not exist."""

    def __init__(self, page: Page) -> None:
        self.page, self.all = page, [run(f"r{number:02}") for number in range(25)]
        page.route("**/runs?*", self._send)
        make(page, VIEW)
        expect(self.row("r24")).to_be_visible()

    def _send(self, route: Route) -> None:
        route.fulfill(json=[] if "paused" in route.request.url else self.all)

    def row(self, name: str) -> Locator:
        return self.page.get_by_role("listitem").filter(has_text=f"x.{name}")

    def change(self, *runs: dict[str, Any]) -> None:
        """Let the view load these, and wait until it shows the first one."""
        self.all = list(runs)
        look_again(self.page)
        first = self.page.get_by_role("listitem").first
        expect(first).to_contain_text(f"x.{runs[0]['name']}")


@pytest.fixture
def runs(page: Page) -> Iterator[Runs]:
    page.set_viewport_size({"width": 1280, "height": 500})
    yield Runs(page)
    page.evaluate("window.leaving?.abort()")
    page.reload()  # with its own functions again
    page.unroute_all(behavior="ignoreErrors")


@pytest.mark.parametrize("browser_moves", [True, False], ids=["moveBefore", "without"])
def test_run_list_update_keeps_focus_and_selection(runs: Runs, *, browser_moves: bool) -> None:
    """A browser without moveBefore takes the focus from an element that moves."""
    if not browser_moves:
        runs.page.evaluate("() => { Element.prototype.moveBefore = undefined }")
    link = runs.row("r02").get_by_role("link")
    link.focus()
    runs.row("r02").locator("code").evaluate(SELECT)
    runs.change(run("new"), *runs.all)
    expect(link).to_be_focused()
    assert runs.page.evaluate(SELECTED) == "r02"
    runs.change(runs.all[3], *runs.all[:3], *runs.all[4:])  # its place changes
    expect(link).to_be_focused()


def test_new_run_does_not_move_rows_under_pointer(runs: Runs) -> None:
    for scrolled, name in ((0, "r02"), (300, "r09")):
        row = runs.row(name)
        runs.page.evaluate("top => scrollTo(0, top)", scrolled)
        row.hover()
        assert (runs.page.evaluate("scrollY") > 0) == (scrolled > 0)
        before = row.bounding_box()
        runs.change(run(f"new-{scrolled}"), *runs.all)
        assert before
        after = row.bounding_box()
        assert after
        assert abs(after["y"] - before["y"]) < 2


def test_run_list_refresh_updates_only_changed_rows(runs: Runs) -> None:
    """A refresh without changes does not write to the page, so screen readers stay silent."""
    runs.page.evaluate(
        """() => {
            window.changes = [];
            const options = { subtree: true, childList: true, attributes: true };
            const watch = (all) => changes.push(...all.map(({ target }) => target.className));
            new MutationObserver(watch).observe(document.querySelector("main ul"), options);
        }"""
    )
    with runs.page.expect_response("**/runs?*limit=25*"):
        look_again(runs.page)
    runs.change(*runs.all[:3], run("r03", "failed"), *runs.all[4:])
    expect(runs.row("r03")).to_contain_text("Failed")
    changed = runs.page.evaluate("changes")
    assert 0 < len(changed) <= 4


def test_action_update_keeps_focus_in_error_text(page: Page) -> None:
    error = "\n".join(f"line {number}" for number in range(100))
    make(page, TREE, [action(0), action(1, error=error)])
    error_text = page.locator("pre")
    error_text.focus()
    error_text.evaluate("node => { node.scrollTop = 300 }")
    error_text.evaluate(SELECT)
    page.evaluate(DRAW, [action(1, error=error, phase="failed", attempts=2)])
    expect(page.get_by_text("2 attempts")).to_be_visible()
    expect(error_text).to_be_focused()
    assert error_text.evaluate("node => node.scrollTop") == 300
    assert page.evaluate(SELECTED).count("line") == 100


def test_action_update_keeps_focus_of_its_button(page: Page) -> None:
    make(page, TREE, [action(0), action(1), action(2, parent="a1")])
    button = page.get_by_role("button", name="a1", exact=True)
    button.click()
    page.evaluate(DRAW, [action(1, phase="failed")])
    expect(page.get_by_text("Failed")).to_be_visible()
    expect(button).to_be_focused()
    expect(button).to_have_attribute("aria-pressed", "true")
    root = page.get_by_role("button", name="a0", exact=True)
    expect(root).to_have_attribute("aria-pressed", "false")


def test_focus_moves_to_heading_if_focused_element_disappears(page: Page) -> None:
    script = """({ update, h, button }, again) => {
        window.view = document.createElement("div");
        window.draw = (...parts) => update(view, h("h1", { tabindex: -1 }, "A"), ...parts);
        draw(button("Abort"));
        return view;
    }"""
    make(page, script)
    page.get_by_role("button", name="Abort").focus()
    page.evaluate("draw('gone')")
    expect(page.get_by_role("heading")).to_be_focused()


def test_list_update_reorders_items_and_replaces_listeners(page: Page) -> None:
    """The test draws the lists of keys in this order, and then in reverse order."""
    script = """({ update, h, button }) => {
        window.clicks = [];
        window.list = h("div");
        window.draw = (keys, round) => update(list, keys.map((key) => h("p", { "data-key": key },
            button(key, () => clicks.push(key + round)))));
        return list;
    }"""
    make(page, script)
    lists = ["", "abc", "cab", "b", "xaybz", "zyx", "abcxyz", "cbazyx", "ac", ""]
    for number, keys in enumerate(json.loads(json.dumps(lists + lists[::-1]))):
        page.evaluate("([keys, round]) => draw([...keys], round)", [keys, number])
        assert page.locator("main").inner_text().split() == [*keys]
        if keys:
            page.get_by_role("button").last.click()
            assert page.evaluate("clicks.at(-1)") == f"{keys[-1]}{number}"

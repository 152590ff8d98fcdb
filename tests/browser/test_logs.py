"""The log of a run on the page, in a real browser."""

import json

import httpx
import pytest
from playwright.sync_api import Route, expect

from local_flyte.testing import wait_until

from .visiting import Visitors, finished, log_lines, started, stream


def test_a_log_of_ten_thousand_lines_is_followed_until_the_user_scrolls_up(
    visit: Visitors, api: httpx.Client
) -> None:
    page = visit("alice").go(f"runs/{started(api, 'talk', lines=10_000)}")
    log = page.get_by_role("log")
    expect(log).to_contain_text("line 10000 of 10000")
    assert len(log_lines(page)) == 10_000
    at_its_end = "log => log.scrollHeight - log.scrollTop - log.clientHeight < 24"
    for width in (320, 1280):  # rewrapping makes the log longer or shorter
        page.set_viewport_size({"width": width, "height": 800})
        page.get_by_label("Wrap lines").click()
        wait_until(lambda: log.evaluate(at_its_end))
        expect(page.get_by_label("Follow")).to_be_checked()
    log.evaluate("log => { log.scrollTop -= 2000 }")
    expect(page.get_by_label("Follow")).not_to_be_checked()
    page.get_by_label("Wrap lines").uncheck()
    assert log.evaluate("log => getComputedStyle(log).whiteSpace") == "pre"


def test_an_interrupted_log_resumes_without_losing_a_line(
    visit: Visitors, api: httpx.Client
) -> None:
    name = started(api, "count", to=3)
    finished(api, name)
    events = api.get(f"/runs/{name}/logs").text.split("\n\n")
    first = next(position for position, event in enumerate(events) if "1 of 3" in event)
    late = {"title": "Gateway Timeout", "status": 504}
    events[first + 1 :] = [f"event: problem\ndata: {json.dumps(late)}", ""]
    again: list[Route] = []

    def break_off(route: Route) -> None:
        if not route.request.headers.get("last-event-id"):
            route.fulfill(body="\n\n".join(events), content_type="text/event-stream")
        elif not again:
            again.append(route)
        else:
            route.continue_()

    visitor = visit("alice")
    visitor.page.route("**/logs*", break_off)
    page = visitor.go(f"runs/{name}")
    expect(page.get_by_text("Gateway Timeout. The log will continue")).to_be_visible()
    wait_until(lambda: page.title() and again)
    again[0].continue_()
    wait_until(lambda: log_lines(page) == ["1 of 3", "2 of 3", "3 of 3"])
    expect(page.get_by_text("The log will continue")).to_have_count(0)


def test_a_log_is_shown_as_a_terminal_would_leave_it(visit: Visitors, api: httpx.Client) -> None:
    written = (
        "\x1b[31mred\x1b[0m \x1b[38:5:1mtoo\x1b[m\n"
        "\x1b]8;;javascript:alert(1)\x1b\\link\x1b]8;;\x1b\\ \x1b]0;title\x1b\\after\n"
        "\x1b(Bplain\x1b=, and \x1b]open to the end"
    )
    page = visit("alice").go(f"runs/{started(api, 'echo', text=written)}")
    shown = ["red too", "link after", "plain, and open to the end"]
    wait_until(lambda: log_lines(page) == shown)
    expect(page.get_by_role("log").get_by_role("link")).to_have_count(0)


@pytest.mark.parametrize(
    ("lines", "text", "kept"),
    [(100_400, "", 100_000), (2_000, "long " * 1200, 800)],
    ids=["many lines", "many characters"],
)
def test_a_log_that_is_too_long_for_a_page_says_what_is_missing_and_its_end_can_be_reached(
    *, lines: int, text: str, kept: int, visit: Visitors, api: httpx.Client
) -> None:
    name = started(api, "greet", name="Ada")
    finished(api, name)
    visitor = visit("alice", viewport={"width": 320, "height": 640})
    page = visitor.page
    parts = """function* () {
        let part = "";
        for (let line = 1; line <= LINES; line++) {
            part += `id: 1-${line}\\ndata: ${line} TEXT\\n\\n`;
            if (part.length > 60000 || line === LINES) { yield part; part = ""; }
        }
    }""".replace("LINES", str(lines)).replace("TEXT", text)
    stream(page, "/logs", parts)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visitor.go(f"runs/{name}")
    wait_until(lambda: page.evaluate("window.sent"))
    log = page.get_by_role("log")
    wait_until(lambda: log.evaluate("log => log.lastChild.textContent").count(f"\n{lines} "))
    page.get_by_role("button", name="Copy log").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert copied[0] == f"― The first {lines - kept} lines are not kept here ―"
    assert [line.split(" ")[0] for line in copied[1:]] == [
        *map(str, range(lines - kept + 1, lines + 1))
    ]
    at_its_end = "log => log.scrollHeight - log.scrollTop - log.clientHeight < 24"
    wait_until(lambda: log.evaluate(at_its_end))
    assert log.evaluate("log => log.scrollHeight") < 33_554_432

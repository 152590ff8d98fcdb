"""Runs in the web UI: the list, conditions, actions and logs."""

import re
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from playwright.sync_api import Page, Request, Route, expect

from local_flyte import LocalFlyte
from local_flyte.testing import wait_until

from ..served import TASKS
from .page_fixtures import Visit, finished, go, look_again, started


def hide(page: Page, is_hidden: str) -> None:
    """Hide or show a tab, as far as its page can tell."""
    getter = f"{{get: () => {is_hidden}, configurable: true}}"
    page.evaluate(f"Object.defineProperty(document, 'hidden', {getter})")
    look_again(page)


def shorten(page: Page, file: str, limit: str, shorter: str) -> None:
    """Give a file of the page a limit that is reached sooner."""

    def change(route: Route) -> None:
        answer = route.fetch()
        assert limit in answer.text()
        route.fulfill(response=answer, body=answer.text().replace(limit, shorter))

    page.route(f"**/page/{file}", change)


def test_run_list_shows_filtered_runs_in_pages(visit: Visit, api: httpx.Client) -> None:
    oldest = started(api, "count", to=0)
    second = int(time.time())
    wait_until(lambda: int(time.time()) > second)  # Flyte rounds the start time of a run
    names = [started(api, "count", to=0) for _ in range(2)]
    assert {finished(api, name) for name in (oldest, *names)} == {"failed"}
    page = visit("bob")
    shorten(page, "runs.js", "PAGE = 25", "PAGE = 3")
    go(page, "runs")
    runs = page.get_by_role("listitem")
    expect(page.get_by_text("You have run nothing here yet.")).to_be_visible()
    page.get_by_label("Everyone").check()
    for name in (oldest, *names):
        expect(runs.filter(has_text=name)).to_contain_text(re.compile("Failed.*Alice Adams"))
    new = started(api, "count", to=6000)
    wait_until(lambda: api.get(f"/runs/{new}").json()["phase"] == "running")
    look_again(page)
    expect(runs.filter(has_text=new)).to_contain_text("Running")
    task = page.get_by_label("Task", exact=True)
    for name, found in (("greet", 0), ("count", 3)):
        task.fill(f"{TASKS}.{name}")
        task.press("Enter")
        expect(runs).to_have_count(found)
    page.get_by_label("Phase").select_option("Failed")
    expect(runs.filter(has_text=new)).to_have_count(0)
    expect(runs).to_have_count(3)
    page.get_by_label("Phase").select_option("Not ended")
    expect(runs).to_have_count(1)
    api.post(f"/runs/{new}/abort", json={})
    assert finished(api, new) == "aborted"
    look_again(page)
    expect(page.get_by_text("No matching runs.")).to_be_visible()
    page.get_by_label("Phase").select_option("Any phase")
    expect(runs).to_have_count(3)
    expect(runs.first).to_contain_text(new)
    expect(runs.filter(has_text=oldest)).to_have_count(0)
    page.get_by_role("link", name="Older runs").click()
    expect(runs).to_have_count(1)
    runs.filter(has_text=oldest).get_by_role("link").click()
    expect(page.get_by_text("Started by").locator("..")).to_contain_text("Alice Adams")


def test_run_list_makes_15_flyte_calls_per_minute(
    visit: Visit, api: httpx.Client, flyte: LocalFlyte
) -> None:
    """A run of the user is active, and a condition waits for an answer."""
    name = started(api, "ask")
    wait_until(lambda: api.get(f"/runs/{name}/conditions").json())
    page = visit("alice")
    page.clock.install()
    go(page, "runs")
    waiting = page.get_by_role("region", name="Waiting for an answer")
    expect(waiting.get_by_label("Answer")).to_be_visible()
    pending = set[Request]()
    page.on("request", lambda request: pending.add(request))  # noqa: PLW0108 - it gets an attribute
    page.on("requestfinished", lambda request: pending.discard(request))  # noqa: PLW0108
    page.clock.pause_at(datetime.now(UTC) + timedelta(seconds=1))
    wait_until(lambda: page.title() and not pending)
    flyte.clear_calls()
    for _ in range(12):
        page.clock.run_for(5000)
        wait_until(lambda: page.title() and not pending)
    methods = Counter(call.method for call in flyte.calls)
    assert methods["ListRuns"] >= 8
    assert methods.total() <= 15
    expect(page.get_by_role("listitem").filter(has_text=name)).to_contain_text("Running")
    waiting.get_by_label("Answer").fill("1")
    waiting.get_by_role("button", name="Send the answer").click()
    expect(waiting).to_contain_text("Alice Adams alice-subject answered: 1")
    wait_until(lambda: len(api.get(f"/runs/{name}/conditions").json()) == 2)
    page.clock.run_for(20_000)  # the next refresh
    expect(waiting).to_contain_text("How many more?")


def test_run_is_aborted_after_confirmation(visit: Visit, api: httpx.Client) -> None:
    name = started(api, "publish", text="x")
    victor = visit("victor", f"runs/{name}")
    victor.get_by_role("button", name="Abort").click()
    victor.get_by_role("button", name="Abort the run").click()
    refusal = victor.get_by_role("alert")
    expect(refusal).to_contain_text("Flyte does not let you do this")
    page = visit("alice", f"runs/{name}")
    panel = page.get_by_role("region", name="Questions")
    expect(panel.get_by_role("button", name="Yes")).to_be_visible()
    expect(page.get_by_role("term").filter(has_text="So far")).to_be_visible()
    abort, heading = page.get_by_role("button", name="Abort"), page.get_by_role("heading", level=1)
    abort.click()
    expect(page.get_by_role("button", name="Let it run")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(abort).to_be_focused()
    abort.click()
    page.get_by_role("button", name="Abort the run").click()
    expect(heading).to_contain_text("Aborted")
    expect(heading).to_be_focused()  # the button is gone
    expect(page.get_by_role("term").filter(has_text="Took")).to_be_visible()
    expect(panel).to_contain_text("Aborted without an answer")
    expect(page.get_by_role("region", name="Abort reason")).to_contain_text("Aborted in the app")
    expect(refusal).to_have_count(0)  # the run has ended


def test_answer_of_one_user_is_shown_to_another(visit: Visit, api: httpx.Client) -> None:
    name = started(api, "publish", text="the news")
    alice = visit("alice", f"runs/{name}")
    panel = alice.get_by_role("region", name="Questions")
    expect(panel.get_by_role("group")).to_contain_text("Publish 'the news'?")
    expect(panel.get_by_role("status")).to_contain_text("asks: Publish 'the news'?")
    bob = visit("bob", "tasks")
    words = "A run of Alice Adams waits for an answer"
    expect(bob.get_by_role("link", name=words).last).to_have_text(words)
    bob.get_by_role("link", name=f"Runs 1 ({words}").click()
    look_again(alice)
    expect(alice.get_by_role("link", name="Runs 1")).to_be_visible()
    for page in (alice, bob):  # from now on, only the answer can tell
        page.route("**/runs?*phase=paused*", lambda route: route.abort())
    waiting = bob.get_by_role("region", name="Waiting for an answer")
    expect(waiting.get_by_role("heading")).to_have_text("Waiting for an answer (1)")
    whose = f"Publish 'the news'?Run {name} of Alice Adams, {TASKS}.publish · Asked"
    expect(waiting).to_contain_text(whose)
    waiting.get_by_role("button", name="Yes").click()
    expect(waiting.get_by_role("group")).to_contain_text("Bob Brown bob-subject answered: Yes")
    expect(panel).to_contain_text("Bob Brown bob-subject answered: Yes")
    expect(alice.get_by_role("region", name="Outputs")).to_contain_text("published: the news")
    expect(waiting.get_by_role("heading")).to_have_text("Waiting for an answer (0)")
    for page in (alice, bob):
        expect(page.get_by_role("link", name="Runs", exact=True)).to_be_visible()


STREAMS = ("WatchActions", "TailLogs")
# Where the bar ends that ends last, as a share of its row
END = """all => Math.max(
    ...all.map((i) => (i.offsetLeft + i.offsetWidth) / i.closest(".bar").offsetWidth)
)"""


def test_web_page_of_large_run_opens_two_streams(
    visit: Visit, api: httpx.Client, flyte: LocalFlyte, tmp_path: Path
) -> None:
    """The run has 13 actions, of which one fails once. Bob is offline while Alice answers."""
    name = started(api, "family", folder=str(tmp_path))
    alice, bob = visit("alice"), visit("bob")
    for page in (alice, bob):
        page.clock.install()
        go(page, f"runs/{name}")
    wait_until((tmp_path / "failed").exists)
    for page in (alice, bob):  # while it runs
        outputs = page.get_by_role("region", name="Outputs")
        expect(outputs).to_contain_text("once the run has succeeded")
        tree = page.get_by_role("region", name="Actions")
        expect(tree.get_by_role("button", name="note")).to_have_count(8)
        expect(tree.get_by_role("button", name="child")).to_have_count(3)
        expect(tree.get_by_role("listitem").first.get_by_role("listitem")).to_have_count(12)
        expect(tree).to_contain_text("children")
        wait_until(lambda: 0.8 < tree.locator("li .bar i").evaluate_all(END) < 1.2)  # noqa: B023
        row = tree.get_by_role("listitem").filter(has_text="2 attempts").last
        expect(row).to_contain_text(re.compile(r"Running .+ s, Attempt 2: .*Running .+ s"))
        condition_row = tree.get_by_role("listitem").filter(has_text="permission").last
        expect(condition_row).to_contain_text(re.compile("Paused.*Waiting for an answer"))
        expect(page.get_by_role("region", name="Questions")).to_contain_text("May they end?")
        row.get_by_role("button").focus()
        page.keyboard.press("Enter")
        expect(row.get_by_role("button")).to_have_attribute("aria-pressed", "true")
        log = page.get_by_role("log")
        wait_until(lambda: log.evaluate("log => log.textContent").count("b begins") == 2)  # noqa: B023
    wait_until(lambda: [flyte.open_calls(method) for method in STREAMS] == [2, 2])
    # It has settled. A minute of the page's own time costs this, and a hidden tab costs nothing.
    flyte.clear_calls()
    alice.clock.run_for(60_000)
    wait_until(lambda: alice.title() and flyte.calls)
    assert {call.method for call in flyte.calls} == {"ListRuns"}
    assert len(flyte.calls) <= 10
    hide(alice, "true")
    wait_until(lambda: [flyte.open_calls(method) for method in STREAMS] == [1, 1])
    flyte.clear_calls()
    alice.clock.run_for(60_000)
    assert (alice.title(), flyte.calls) == (alice.title(), [])
    hide(alice, "false")
    wait_until(lambda: [flyte.open_calls(method) for method in STREAMS] == [2, 2])

    bob.context.set_offline(True)
    alice.get_by_role("button", name="Yes").click()
    for page in (alice, bob):
        text = "Alice Adams alice-subject answered: Yes" if page is alice else "May they end?"
        expect(page.get_by_role("region", name="Questions")).to_contain_text(text)
    (tmp_path / "gate").touch()
    expect(alice.get_by_role("log")).to_contain_text("b ends")
    expect(bob.get_by_text("The log will continue as soon as this is over.")).to_be_visible()
    bob.context.set_offline(False)
    bob.clock.run_for(20_000)
    assert finished(api, name) == "succeeded"
    for page in (alice, bob):
        expect(page.get_by_role("heading", level=1)).to_contain_text("Succeeded")
        expect(page.get_by_text("Alice Adams alice-subject answered: Yes").last).to_be_visible()
        rows = page.get_by_role("region", name="Actions").get_by_role("listitem")
        expect(rows.filter(has_text="permission").last).to_contain_text("Succeeded")
        expect(page.get_by_role("log")).to_contain_text("b ends")
        lines = page.get_by_role("log").evaluate("log => log.textContent").splitlines()
        own = [line for line in lines if line.startswith(("b ", "Attempt"))]
        assert own == ["b begins", "Attempt 2", "b begins", "b ends"]
        # The line of the task with this text is no mark.
        expect(page.locator(".log-mark:not(:empty)")).to_have_text("Attempt 2")
        expect(page.get_by_text("The log will continue")).to_have_count(0)
        page.get_by_role("button", name="family").click()
    with alice.context.expect_page() as opened:
        alice.get_by_role("link", name="Report").click()
    report = opened.value
    expect(report.get_by_text("A family of three")).to_be_visible()
    assert report.evaluate("origin") == "null"  # an origin of its own, whose scripts reach no other
    assert alice.context.request.put(report.url).status == 403  # not signed


def test_long_log_is_truncated_while_lines_arrive(visit: Visit, api: httpx.Client) -> None:
    lines, kept = 1_400, 1_000
    name = started(api, "greet", name="Ada")
    finished(api, name)
    page = visit("alice")
    gone = 'event: unavailable\nid: 1-gone\ndata: {"attempt": 1}\n\n'  # once it has all been read
    whole = "".join(f"id: 1-{n}\ndata: {n} \n\n" for n in range(1, lines + 1))
    answers = ["", gone, whole]
    page.route(
        "**/logs*",
        lambda route: route.fulfill(body=answers.pop(), content_type="text/event-stream"),
    )
    shorten(page, "log.js", "MAX_LINES = 100_000", f"MAX_LINES = {kept}")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    go(page, f"runs/{name}")
    log = page.get_by_role("log")
    wait_until(lambda: log.evaluate("log => log.lastChild.textContent").count(f"\n{lines} "))
    wait_until(lambda: page.title() and not answers)
    page.get_by_role("button", name="Copy log").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    missing, *copied = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert missing == f"The first {lines - kept} lines are not kept here"
    assert [int(line.split(" ")[0]) for line in copied] == [*range(lines - kept + 1, lines + 1)]
    at_its_end = "log => log.scrollHeight - log.scrollTop - log.clientHeight < 24"
    wait_until(lambda: log.evaluate(at_its_end))
    log.evaluate("log => { log.scrollTop -= 2000 }")
    expect(page.get_by_label("Follow")).not_to_be_checked()

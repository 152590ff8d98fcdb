"""What a run asks, who answers it, and what its actions did, in a real browser."""

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Page, Request, expect

from local_flyte import LocalFlyte
from local_flyte.testing import wait_until

from ..served import TASKS
from .visiting import Visitors, finished, look_again, send_actions, started

HOSTILE = "<img src=x onerror=alert(1)>\u202e" + "long" * 1000
"""A prompt with a script, right-to-left text, and a very long word."""


def hide(page: Page, is_hidden: str) -> None:
    """Hide or show a tab, as far as its page can tell."""
    getter = f"{{get: () => {is_hidden}, configurable: true}}"
    page.evaluate(f"Object.defineProperty(document, 'hidden', {getter})")
    look_again(page)


def test_bob_answers_what_alices_run_asks_and_alice_sees_that_it_was_bob(
    visit: Visitors, api: httpx.Client
) -> None:
    name = started(api, "publish", text="the news")
    alice = visit("alice").go(f"runs/{name}")
    asked = alice.get_by_role("region", name="Questions")
    expect(asked.get_by_role("group")).to_contain_text("Publish 'the news'?")
    expect(asked.get_by_role("status")).to_contain_text("asks: Publish 'the news'?")
    bob = visit("bob").go("tasks")
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
    expect(waiting.get_by_role("group")).to_contain_text("Bob Brown answered: Yes")
    expect(asked).to_contain_text("Bob Brown answered: Yes")
    expect(alice.get_by_role("region", name="Outputs")).to_contain_text("published: the news")
    expect(waiting.get_by_role("heading")).to_have_text("Waiting for an answer (0)")
    expect(asked.get_by_title("bob-subject").last).to_have_text("Bob Brown")
    for page in (alice, bob):
        expect(page.get_by_role("link", name="Runs", exact=True)).to_be_visible()


def test_a_question_has_the_control_that_fits_its_type_and_its_prompt_is_text(
    visit: Visitors, api: httpx.Client
) -> None:
    page = visit("alice").go(f"runs/{started(api, 'ask', prompt=HOSTILE, kind='number')}")
    question = page.get_by_role("region", name="Questions")
    expect(question.get_by_role("group").first).to_contain_text("<img src=x onerror=alert(1)>")
    assert page.locator("main img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for given in ("x", "2"):
        question.get_by_label("Answer").fill(given)
        question.get_by_role("button", name="Send the answer").click()
        if given == "x":
            expect(question.get_by_label("Answer")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_role("region", name="Outputs")).to_contain_text("2.0")


def questions(*asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a run's conditions."""
    default = dict.fromkeys(("asked_at", "description", "answered_at", "answered_by", "value"))
    default |= {"phase": "paused", "type": "boolean"}
    return [default | each | {"action": each["name"]} for each in asked]


def test_questions_are_in_order_and_answers_are_what_they_are(
    visit: Visitors, api: httpx.Client
) -> None:
    """Times of different precisions: as text, the second one would come after the first."""
    visitor = visit("alice")
    run = started(api, "greet", name="Ada")
    told: dict[object, str] = {"constructor": "“constructor”", "true": "“true”"}
    told |= {True: "Yes", False: "No", 2: "2"}
    answers = [
        {"name": str(number), "value": value, "asked_at": f"2026-01-31T09:30:0{number}Z"}
        for number, value in enumerate(told)
    ]
    asked = questions(
        *answers,
        {"name": "newest", "asked_at": "2026-01-31T09:30:08.847Z"},
        {"name": "older", "asked_at": "2026-01-31T09:30:08Z"},
    )
    asked = [each | {"run": run, "prompt": each["name"]} for each in asked]
    send_actions(visitor.page, {"phase": "paused"}, *({"condition": each} for each in asked))
    page = visitor.go(f"runs/{run}")
    shown = page.get_by_role("region", name="Questions")
    expect(shown.locator(".told")).to_have_text(["newest", "older", "4", "3", "2", "1", "0"])
    words = [f"Somebody answered: {each}" for each in reversed(told.values())]
    expect(shown.locator(".text")).to_have_text(words)


def test_a_question_that_was_cut_off_has_no_buttons_until_all_of_it_is_shown(
    visit: Visitors, api: httpx.Client
) -> None:
    text = "really " * 3000 + "not"
    page = visit("alice").go(f"runs/{started(api, 'publish', text=text)}")
    question = page.get_by_role("region", name="Questions").get_by_role("group")
    expect(question.get_by_role("button")).to_have_text(["Show the whole question"])
    question.get_by_role("button").click()
    expect(question.get_by_role("button")).to_have_text(["Yes", "No"])
    expect(question.locator(".told")).to_have_text(f"Publish {text!r}?")
    expect(question.locator(".told")).to_be_focused()


def test_a_run_that_waits_says_why_and_nothing_is_asked_for_that_is_not_there(
    visit: Visitors, api: httpx.Client
) -> None:
    visitor = visit("alice")
    name = started(api, "greet", name="Ada")
    event = {"message": "0/3 nodes are available", "count": 12, "last_at": None}
    waits, failed = {"phase": "queued"}, {"phase": "failed", "error": "no memory"}
    send_actions(
        visitor.page,
        waits | {"events": [event], "has_report": True},
        failed | {"events": [event]},
    )
    asked: list[str] = []
    visitor.page.on("request", lambda request: asked.append(request.url))
    page = visitor.go(f"runs/{name}")
    said = page.get_by_label("What the cluster says")
    expect(said).to_have_text(["0/3 nodes are available (seen 12 times)"] * 2)
    expect(page.locator(".events").last.locator("xpath=preceding-sibling::pre")).to_have_text(
        "no memory"
    )
    expect(page.get_by_role("region", name="Log")).to_contain_text("It begins when the task does.")
    expect(page.get_by_role("link", name="Report")).to_have_count(0)
    assert not [url for url in asked if "/logs" in url or "/report" in url]


def test_a_question_that_was_answered_meanwhile_says_so(visit: Visitors, api: httpx.Client) -> None:
    name = started(api, "publish", text="x")
    page = visit("alice").go(f"runs/{name}")
    question = page.get_by_role("region", name="Questions")
    expect(question.get_by_role("button", name="No")).to_be_visible()
    hide(page, "true")  # the page learns nothing from now on
    action = api.get(f"/runs/{name}/conditions").json()[0]["action"]
    answered = api.post(f"/runs/{name}/conditions/{action}", json={"value": True})
    assert answered.status_code == 200
    question.get_by_role("button", name="No").press("Enter")
    expect(question.get_by_role("alert")).to_contain_text(re.compile("That can.t be done"))


STREAMS = ("WatchActions", "TailLogs")


def test_a_run_of_13_actions_is_right_at_each_moment_for_two_people_and_costs_two_streams(
    visit: Visitors, api: httpx.Client, flyte: LocalFlyte, tmp_path: Path
) -> None:
    """One action fails once, one asks; bob is cut off while alice answers."""
    name = started(api, "family", folder=str(tmp_path))
    visitors = [visit(person) for person in ("alice", "bob")]
    for each in visitors:
        each.page.clock.install()
    alice, bob = (each.go(f"runs/{name}") for each in visitors)
    wait_until((tmp_path / "failed").exists)
    for page in (alice, bob):  # while it runs
        outputs = page.get_by_role("region", name="Outputs")
        expect(outputs).to_contain_text("once the run has succeeded")
        tree = page.get_by_role("region", name="Actions")
        expect(tree.get_by_role("button", name="note")).to_have_count(8)
        expect(tree.get_by_role("button", name="child")).to_have_count(3)
        expect(tree.get_by_role("listitem").first.get_by_role("listitem")).to_have_count(12)
        expect(tree).to_contain_text("children")
        row = tree.get_by_role("listitem").filter(has_text="2 attempts").last
        expect(row).to_contain_text(re.compile(r"Running .+ s, Attempt 2: .*Running .+ s"))
        asks = tree.get_by_role("listitem").filter(has_text="permission").last
        expect(asks).to_contain_text(re.compile("Paused.*Waiting for an answer"))
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
        expect(page.get_by_role("region", name="Questions")).to_contain_text(
            "Alice Adams answered: Yes" if page is alice else "May they end?"
        )
    (tmp_path / "gate").touch()
    expect(alice.get_by_role("log")).to_contain_text("b ends")
    bob.context.set_offline(False)
    bob.clock.run_for(20_000)
    assert finished(api, name) == "succeeded"
    for page in (alice, bob):
        expect(page.get_by_role("heading", level=1)).to_contain_text("Succeeded")
        expect(page.get_by_text("Alice Adams answered: Yes").last).to_be_visible()
        rows = page.get_by_role("region", name="Actions").get_by_role("listitem")
        expect(rows.filter(has_text="permission").last).to_contain_text("Succeeded")
        expect(page.get_by_role("log")).to_contain_text("b ends")
        lines = page.get_by_role("log").evaluate("log => log.textContent").splitlines()
        own = [line for line in lines if line.startswith(("b ", "―"))]
        assert own == ["b begins", "― Attempt 2 ―", "b begins", "b ends"]
        page.get_by_role("button", name="family").click()
    with alice.context.expect_page() as opened:
        alice.get_by_role("link", name="Report").click()
    expect(opened.value.get_by_text("A family of three")).to_be_visible()


def test_a_list_of_runs_asks_at_most_15_times_a_minute(
    visit: Visitors, api: httpx.Client, flyte: LocalFlyte
) -> None:
    """While something of one's own runs, and something asks."""
    name = started(api, "publish", text="x")
    visitor = visit("alice")
    visitor.page.clock.install()
    page = visitor.go("runs")
    waiting = page.get_by_role("region", name="Waiting for an answer")
    expect(waiting.get_by_role("button", name="Yes")).to_be_visible()
    pending = set[Request]()
    page.on("request", lambda request: pending.add(request))  # noqa: PLW0108 - it gets an attribute
    page.on("requestfinished", lambda request: pending.discard(request))  # noqa: PLW0108
    page.clock.pause_at(datetime.now(UTC) + timedelta(seconds=1))
    wait_until(lambda: page.title() and not pending)
    flyte.clear_calls()
    for _ in range(30):
        page.clock.run_for(2000)
        wait_until(lambda: page.title() and not pending)
    methods = Counter(call.method for call in flyte.calls)
    assert methods["ListRuns"] >= 8
    assert methods.total() <= 15
    expect(page.get_by_role("listitem").filter(has_text=name)).to_contain_text("Running")


def test_a_question_of_a_run_that_has_ended_cannot_be_answered(
    visit: Visitors, api: httpx.Client
) -> None:
    """That of an aborted run has ended with it; that of a failed one stays paused."""
    name = started(api, "publish", text="x")
    visitor = visit("alice")
    page = visitor.go(f"runs/{name}")
    question = page.get_by_role("region", name="Questions").get_by_role("group")
    question.get_by_role("button", name="Yes").focus()
    api.post(f"/runs/{name}/abort", json={})
    expect(question).to_contain_text("without an answer")
    expect(question.get_by_role("button")).to_have_count(0)
    assert page.evaluate("document.activeElement.role") == "status"  # where it is told
    (asked,) = questions({"name": "a1", "run": name, "prompt": "Publish?"})
    send_actions(page, {"phase": "failed"}, {"condition": asked})
    visitor.go(f"runs/{name}")
    expect(question).to_contain_text("The run has ended without an answer")
    expect(question.get_by_role("button")).to_have_count(0)

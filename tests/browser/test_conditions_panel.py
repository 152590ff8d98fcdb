"""The panel that shows conditions of runs, without an app."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from playwright.sync_api import Locator, Page, Route, expect

from .page_fixtures import condition, make

SHOW = """({ questionsPanel }, conditions, options) => {
    window.panel = questionsPanel("Questions", options);
    panel.draw(conditions);
    return panel.node;
}"""


def show(page: Page, *conditions: dict[str, Any], **options: object) -> Locator:
    make(page, SHOW, conditions, options)
    return page.locator(".question")


def draw(page: Page, *conditions: dict[str, Any]) -> None:
    page.evaluate("(conditions) => panel.draw(conditions)", conditions)


def at(second: float) -> str:
    return f"2026-01-31T09:30:{second:06.3f}Z"


def test_condition_list_keeps_order_when_updated(page: Page) -> None:
    """The times have different precisions, so sorting them as text gives another order."""
    texts: dict[object, str] = {"constructor": "“constructor”", "true": "“true”"}
    texts |= {True: "Yes", False: "No", 2: "2"}
    dan = {"subject": "dan-subject", "name": "Dan"}
    answers = [
        condition(str(number), value=value, asked_at=at(number), answered_by=dan)
        for number, value in enumerate(texts)
    ]
    older = condition("older", asked_at="2026-01-31T09:30:08Z")
    misleading = "Asked 1 min ago · Run x of Alice"
    newest = condition("newest", asked_at=at(8.847), description=misleading)
    cards = show(page, *answers, newest, older)
    names = ["newest", "older", "4", "3", "2", "1", "0"]
    expect(cards.locator(".question-prompt")).to_have_text(names)
    words = [f"Dan dan-subject answered: {value}" for value in reversed(texts.values())]
    expect(cards.locator("p[data-key=result]")).to_have_text(words)
    expect(cards.first.locator(".hint")).not_to_contain_text("Alice")  # is not the page's own
    draw(page, condition("later", asked_at=at(9)), condition("older", value=True, answered_by=dan))
    expect(cards.locator(".question-prompt")).to_have_text([*names, "later"])
    expect(cards.nth(1)).to_contain_text("Dan dan-subject answered: Yes")


def test_expired_condition_stays_visible(page: Page) -> None:
    cards = show(page, condition("1"), condition("2"), everywhere=True, most=2)
    draw(page, condition("2"), condition("3"))  # as many as are listed: 1 may be among the others
    expect(cards.first.get_by_role("button")).to_have_count(2)
    draw(page, condition("3"))
    expect(cards.locator(".question-prompt")).to_have_text(["1", "2", "3"])
    expect(cards.locator("p[data-key=result]")).to_have_text(
        ["This no longer waits for an answer"] * 2
    )
    expect(page.get_by_role("heading")).to_have_text("Questions (1)")


def test_click_on_recently_moved_button_is_ignored(page: Page) -> None:
    page = page.context.new_page()
    page.clock.install()
    page.goto("http://form.example/")
    page.clock.pause_at(datetime.now(UTC) + timedelta(seconds=1))
    sent: list[str] = []

    def answer(route: Route) -> None:
        sent.append(route.request.url.rpartition("/")[2])
        route.fulfill(json=condition(sent[-1], value=True))

    page.route("**/runs/r/conditions/*", answer)
    cards = show(page, condition("delete"), condition("restart"))
    yes = cards.filter(has_text="restart").get_by_role("button", name="Yes")

    def click(milliseconds: int) -> None:
        """Click on it as a person does, when it has stood for so long."""
        page.clock.run_for(milliseconds)
        box = yes.bounding_box()
        assert box
        page.mouse.click(box["x"] + 5, box["y"] + 5)

    click(900)
    page.clock.run_for(500)
    page.evaluate("document.querySelector('main').prepend('A banner')")
    click(0)
    click(900)
    assert sent == []
    click(200)
    expect(cards.last).to_contain_text("answered: Yes")
    assert sent == ["restart"]
    cards.first.get_by_role("button", name="Yes").press("Enter")  # keys know what they are for
    expect(cards.first).to_contain_text("answered: Yes")
    page.clock.resume()  # also for the others
    page.close()


def test_only_newest_100_conditions_are_shown(page: Page) -> None:
    many = [condition(str(number), asked_at=at(number / 10)) for number in range(121)]
    cards = show(page, *many[:50])
    draw(page, *many[50:])
    expect(cards).to_have_count(100)
    expect(cards.filter(has_text=re.compile("^50"))).to_have_count(0)
    note = page.get_by_text("The newest 100 are shown. The others follow as these are answered.")
    expect(note).to_be_visible()
    draw(page, *[condition(str(number), phase="aborted") for number in range(30)])
    expect(cards).to_have_count(121)
    expect(note).to_have_count(0)


def test_refused_answer_can_be_sent_again(page: Page) -> None:
    wanted = {"name": "How many?", "type": "number"}
    cards = show(page, condition(**wanted))
    send = cards.get_by_role("button", name="Send the answer")
    cards.get_by_label("Answer").fill("x")
    send.click()
    expect(cards.get_by_label("Answer")).to_have_accessible_description(re.compile("Give a number"))
    cards.get_by_label("Answer").fill("2")
    conflict = {"title": "Conflict", "status": 409}  # somebody else has answered
    page.route("**/conditions/*", lambda route: route.fulfill(status=409, json=conflict))
    send.press("Enter")
    expect(cards.get_by_role("alert")).to_contain_text(re.compile("That can.t be done"))
    expect(send).to_be_focused()
    answered = condition(**wanted, value=2.0, answered_by={"subject": "dan-subject", "name": "Dan"})
    page.route("**/runs/r/conditions/*", lambda route: route.fulfill(json=answered))
    with page.expect_request("**/conditions/*") as sent:
        send.click()
    assert sent.value.post_data == '{"value":2.0}'
    expect(cards).to_contain_text("Dan dan-subject answered: 2.0")
    page.unroute_all()


def test_unanswerable_condition_has_no_buttons(page: Page) -> None:
    for facts, why in (
        ({"type": None}, "type is unknown"),
        ({"prompt_truncated": True}, "too long"),
    ):
        cards = show(page, condition("a1", **facts))
        expect(cards).to_contain_text(why)
        expect(cards.get_by_role("button")).to_have_count(0)
    cards = show(page, condition("a1"))
    cards.get_by_role("button", name="Yes").focus()
    draw(page, condition("a1", phase="aborted"))
    expect(cards).to_contain_text("Aborted without an answer")
    expect(cards.get_by_role("button")).to_have_count(0)
    assert page.evaluate("document.activeElement.role") == "status"  # where it is told

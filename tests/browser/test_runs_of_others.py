"""What a run asks, who answers it, and what its actions did, in a real browser."""

import re
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from local_flyte.testing import wait_until

from .visiting import Visitors, finished, started

HOSTILE = "<img src=x onerror=alert(1)>\u202e" + "long" * 1000
"""A prompt with a script, right-to-left text, and a very long word."""


def test_bob_answers_what_alices_run_asks_and_alice_sees_that_it_was_bob(
    visit: Visitors, api: httpx.Client
) -> None:
    name = started(api, "publish", text="the news")
    alice = visit("alice").go(f"runs/{name}")
    asked = alice.get_by_role("region", name="Questions")
    expect(asked.get_by_role("group")).to_contain_text("Publish 'the news'?")
    expect(asked.get_by_role("status")).to_contain_text("asks: Publish 'the news'?")
    bob = visit("bob").go("runs")
    waiting = bob.get_by_role("region", name="Waiting for an answer")
    expect(waiting.get_by_role("heading")).to_have_text("Waiting for an answer (1)")
    expect(waiting).to_contain_text("Publish 'the news'?")
    waiting.get_by_role("button", name="Yes").click()
    expect(waiting.get_by_role("group")).to_contain_text("bob-subject answered: Yes")
    expect(asked).to_contain_text("bob-subject answered: Yes")
    expect(alice.get_by_role("region", name="Outputs")).to_contain_text("published: the news")
    expect(waiting.get_by_role("heading")).to_have_text("Waiting for an answer (0)")


@pytest.mark.parametrize(
    ("kind", "wrong", "right", "output"), [("number", "x", "2", "2.0"), ("text", "", "so", "so")]
)
def test_a_question_has_the_control_that_fits_its_type_and_its_prompt_is_text(
    *, visit: Visitors, api: httpx.Client, kind: str, wrong: str, right: str, output: str
) -> None:
    page = visit("alice").go(f"runs/{started(api, 'ask', prompt=HOSTILE, kind=kind)}")
    question = page.get_by_role("region", name="Questions")
    prompt = question.get_by_role("group").first
    expect(prompt).to_contain_text("<img src=x onerror=alert(1)>")
    assert page.locator("main img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if wrong:
        question.get_by_label("Answer").fill(wrong)
        question.get_by_role("button", name="Send the answer").click()
        expect(question.get_by_label("Answer")).to_have_attribute("aria-invalid", "true")
    question.get_by_label("Answer").fill(right)
    question.get_by_role("button", name="Send the answer").click()
    expect(page.get_by_role("region", name="Outputs")).to_contain_text(output)


def test_a_question_that_was_answered_meanwhile_says_so(visit: Visitors, api: httpx.Client) -> None:
    name = started(api, "publish", text="x")
    visitor = visit("alice")
    page = visitor.go(f"runs/{name}")
    question = page.get_by_role("region", name="Questions")
    expect(question.get_by_role("button", name="No")).to_be_visible()
    page.route("**/conditions?*", lambda _: None)  # the page learns nothing from now on
    page.route("**/conditions", lambda _: None)
    action = api.get(f"/runs/{name}/conditions").json()[0]["action"]
    answered = api.post(f"/runs/{name}/conditions/{action}", json={"value": True})
    assert answered.status_code == 200
    question.get_by_role("button", name="No").press("Enter")
    expect(question.get_by_role("alert")).to_contain_text(re.compile("That can.t be done"))


def test_a_runs_actions_are_a_tree_each_with_its_log_and_error(
    visit: Visitors, api: httpx.Client, tmp_path: Path
) -> None:
    """Two people watch it, one of whom is cut off in between: no line is lost or comes twice."""
    name = started(api, "family", folder=str(tmp_path))
    alice, bob = (visit(person).go(f"runs/{name}") for person in ("alice", "bob"))
    wait_until((tmp_path / "failed").exists)
    for page in (alice, bob):
        tree = page.get_by_role("region", name="Actions")
        expect(tree.get_by_role("button", name="child")).to_have_count(3)
        expect(tree).to_contain_text("children")
        expect(tree).to_contain_text("2 attempts")
        row = tree.get_by_role("listitem").filter(has_text="2 attempts").last
        row.get_by_role("button").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("log")).to_contain_text("― Attempt 2 ―")
        log = page.get_by_role("log")
        wait_until(lambda: log.evaluate("log => log.textContent").count("b begins") == 2)  # noqa: B023
    bob.context.set_offline(True)
    (tmp_path / "gate").touch()
    expect(alice.get_by_role("log")).to_contain_text("b ends")
    bob.context.set_offline(False)
    assert finished(api, name) == "succeeded"
    for page in (alice, bob):
        expect(page.get_by_role("log")).to_contain_text("b ends")
        lines = page.get_by_role("log").evaluate("log => log.textContent").splitlines()
        own = [line for line in lines if line.startswith(("b ", "―"))]
        assert own == ["b begins", "― Attempt 2 ―", "b begins", "b ends"]
        page.get_by_role("button", name="family").click()
    with alice.context.expect_page() as opened:
        alice.get_by_role("link", name="Report").click()
    expect(opened.value.get_by_text("A family of three")).to_be_visible()


def test_a_question_of_a_run_that_has_ended_cannot_be_answered(
    visit: Visitors, api: httpx.Client
) -> None:
    """Flyte leaves it paused."""
    name = started(api, "publish", text="x")
    page = visit("alice").go(f"runs/{name}")
    question = page.get_by_role("region", name="Questions").get_by_role("group")
    question.get_by_role("button", name="Yes").focus()
    api.post(f"/runs/{name}/abort", json={})
    expect(question).to_contain_text("The run has ended without an answer")
    expect(question.get_by_role("button")).to_have_count(0)
    assert page.evaluate("document.activeElement.role") == "status"  # where it is told

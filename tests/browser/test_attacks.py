"""Attacks on a visitor's browser: by pages of other sites, and by text that contains markup."""

import json
import re

import httpx
import pytest
from playwright.sync_api import expect

from local_flyte.testing import wait_until

from ..served import TASKS, App
from .page_fixtures import MARKUP, Visit, check_harmless, condition, go, send_actions, started

FETCH = """async ([target, options]) => {
    try {
        const response = await fetch(target, options);
        return [response.type, await response.text()];
    } catch (error) {
        return ["error", ""];
    }
}"""
START = {"method": "POST", "body": json.dumps({"inputs": {"name": "script"}})}
AS_JSON = {"headers": {"Content-Type": "application/json"}}


# Another port is another origin on the same site, so the browser sends the cookie even with a
# strict SameSite, and the app refuses the other origin; another host is another site.
@pytest.mark.parametrize(("host", "status"), [("127.0.0.1", 403), ("localhost", 401)])
def test_attack_from_another_website_has_no_effect(
    host: str, status: int, *, visit: Visit, app: App, api: httpx.Client
) -> None:
    name = started(api, "count", to=6000)
    page, me = visit("alice"), f"{app.url}/me"  # she is signed in, and visits the attacker's site

    def attack(content: str) -> None:
        answer = {"body": f"<!doctype html>{content}", "content_type": "text/html"}
        page.route("http://*/attack", lambda route: route.fulfill(**answer))
        page.goto(f"http://{host}:2000/attack")

    for path in (f"tasks/{TASKS}.greet/runs", f"runs/{name}/abort"):
        with page.expect_response(lambda answer: answer.request.method == "POST") as answered:
            attack(
                f'<form method=post enctype="text/plain" action="{app.url}/{path}">'
                """<input name='{"inputs": {"name": "' value='form"}}'></form>"""
                "<script>document.forms[0].submit()</script>"
            )
        assert answered.value.status == status, path
    attack(f'<script src="{me}"></script><img src="{me}">')
    assert page.evaluate("document.images[0].naturalWidth") == 0
    start = f"{app.url}/tasks/{TASKS}.greet/runs"
    for url, options in ((me, {}), (start, START | AS_JSON), (start, START | {"mode": "no-cors"})):
        result = page.evaluate(FETCH, [url, {"credentials": "include"} | options])
        assert result in (["error", ""], ["opaque", ""]), options
    (run,) = api.get("/runs").json()
    assert run["name"] == name
    assert run["phase"] not in {"aborted", "failed"}


TERMINAL = (
    "\x1b[31mred\x1b[0m \x1b[38:5:1mtoo\x1b[m\n"
    "\x1b]8;;javascript:alert(1)\x1b\\link\x1b]8;;\x1b\\ \x1b]0;title\x1b\\after\n"
    "\x1b(Bplain\x1b=, and \x1b]open to the end"
)
SHOWN = "red too\nlink after\nplain, and open to the end\n"


def test_markup_in_inputs_errors_and_logs_is_escaped(visit: Visit, api: httpx.Client) -> None:
    name = started(api, "echo", text=f"{MARKUP}\n{TERMINAL}", fail=True)
    page = visit("alice", f"runs/{name}")
    for region in ("Inputs", "Error"):
        expect(page.get_by_role("region", name=region)).to_contain_text(MARKUP)
    log = page.get_by_role("log")
    wait_until(lambda: f"\n{MARKUP}\n{SHOWN}" in log.evaluate("log => log.textContent"))
    expect(log.get_by_role("link")).to_have_count(0)
    check_harmless(page)
    page.get_by_role("link", name="Run again").click()
    expect(page.get_by_label("text text")).to_have_value(re.compile(re.escape(MARKUP)))
    check_harmless(page)


def test_markup_in_actions_and_conditions_is_escaped(visit: Visit, api: httpx.Client) -> None:
    name = started(api, "greet", name="Ada")
    page = visit("alice")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    event = {"message": MARKUP, "last_at": None}
    texts = {"title": MARKUP, "task": MARKUP, "group": MARKUP, "error": MARKUP, "events": [event]}
    late = f"event: problem\ndata: {json.dumps({'status': 504, 'detail': MARKUP})}\n\n"
    root = {"phase": "queued", "has_report": True, "events": [event]}
    send_actions(page, root, texts, ends=late)
    go(page, f"runs/{name}")
    tree = page.get_by_role("region", name="Actions")
    for part in (tree.get_by_role("button").nth(1), tree.locator("pre")):
        expect(part).to_have_text(MARKUP)
    expect(page.get_by_label("What the cluster says")).to_have_text([MARKUP, MARKUP])
    expect(page.get_by_role("alert").locator(".wrapped")).to_have_text(MARKUP)
    expect(page.get_by_text("The page will continue as soon as this is over.")).to_be_visible()
    check_harmless(page)
    expect(page.get_by_role("region", name="Log")).to_contain_text("It begins when the task does.")
    expect(page.get_by_role("link", name="Report")).to_have_count(0)
    assert not [url for url in asked if "/logs" in url or "/report" in url]
    waiting = {"type": "condition", "condition": condition("a1", prompt=MARKUP)}
    send_actions(page, {"phase": "failed"}, waiting)
    go(page, f"runs/{name}")
    panel = page.get_by_role("region", name="Questions")
    expect(panel.locator(".question-prompt")).to_have_text(MARKUP)
    expect(panel).to_contain_text("The run has ended without an answer")
    expect(panel.get_by_role("button")).to_have_count(0)


def test_malicious_url_of_web_ui_is_harmless(visit: Visit) -> None:
    page = visit("alice")
    for place in (
        "tasks/%3Cimg%20src=x%20onerror=alert(1)%3E",
        "runs/%2e%2e%2fme",
        "runs/%E0%A4%A",
        "constructor/x",
        "runs?phase=__proto__&task=%3Cb%3E",
    ):
        go(page, place)
        message = page.locator(
            "main .problem, h1:text('not found'), main .hint:not(:empty):not(:text('Loading'))"
        )
        expect(message.first).to_be_visible()
        check_harmless(page)

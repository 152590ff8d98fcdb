"""Attacks on a visitor's browser: by pages of other sites, and by text that contains markup."""

import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from ..served import TASKS, App
from .visiting import Visitors, finished, send_actions, started

MARKUP = (
    "<img src=x onerror=alert(1)><script>alert(2)</script><svg onload=alert(3)>"
    "<a href=javascript:alert(4)>x</a>\"'><iframe srcdoc='<script>parent.alert(5)</script>'>"
    "{{ 7 * 7 }}${alert(6)}\u202ereversed"
)


Attacker = Callable[[str], str]
"""Puts a page on another site; returns its URL."""


# Another port is another origin on the same site, so the browser sends the cookie even with a
# strict SameSite; another host is another site.
@pytest.fixture(params=["127.0.0.1", "localhost"], ids=["same site", "other site"])
def attacker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Attacker]:
    """A site that alice visits with the browser that she is signed in with."""
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()

        def add(content: str) -> str:
            name = f"{len([*tmp_path.iterdir()])}.html"
            (tmp_path / name).write_text(f"<!doctype html>{content}", "utf-8")
            return f"http://{request.param}:{server.server_port}/{name}"

        yield add
        server.shutdown()


STYLES = """() => [...document.styleSheets].map(sheet => {
    try { return sheet.cssRules.length } catch { return "unreadable" }
})"""
FETCH = """async ([target, options]) => {
    try {
        const response = await fetch(target, options);
        return [response.type, await response.text()];
    } catch (error) {
        return ["error", ""];
    }
}"""
STARTING = {"method": "POST", "body": json.dumps({"inputs": {"name": "script"}})}
FETCHED: list[tuple[str, dict[str, Any]]] = [
    ("me", {"method": "GET"}),
    (f"tasks/{TASKS}.greet/runs", STARTING | {"headers": {"Content-Type": "text/plain"}}),
    (f"tasks/{TASKS}.greet/runs", STARTING | {"headers": {"Content-Type": "application/json"}}),
    (f"tasks/{TASKS}.greet/runs", STARTING | {"mode": "no-cors"}),
    (f"tasks/{TASKS}.greet/runs", STARTING | {"method": "DELETE"}),
]


def test_a_page_of_another_site_cannot_start_abort_or_read_anything(
    attacker: Attacker, visit: Visitors, app: App, api: httpx.Client
) -> None:
    name = started(api, "count", to=6000)
    page = visit("alice").page
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        for path in (f"tasks/{TASKS}.greet/runs", f"runs/{name}/abort"):
            url = attacker(
                f'<form method=post enctype="{kind}" action="{app.url}/{path}">'
                """<input name='{"inputs": {"name": "' value='form"}}'></form>"""
                "<script>document.forms[0].submit()</script>"
            )
            with page.expect_response(lambda answer: answer.request.method == "POST") as answered:
                page.goto(url)
            # Without the cookie the answer is 401; with it, 403 because of the other site.
            assert answered.value.status in {401, 403}, kind
    me = f"{app.url}/me"
    loads = f'<script src="{me}"></script><img src="{me}"><link rel=stylesheet href="{me}">'
    page.goto(attacker(loads))
    assert page.evaluate("document.images[0].naturalWidth") == 0
    assert [sheet for sheet in page.evaluate(STYLES) if sheet != "unreadable"] == []
    for path, options in FETCHED:
        got = page.evaluate(FETCH, [f"{app.url}/{path}", {"credentials": "include"} | options])
        assert got in (["error", ""], ["opaque", ""]), options
    (run,) = api.get("/runs").json()
    assert run["name"] == name
    assert run["phase"] not in {"aborted", "failed"}


# Untrusted text


def check_harmless(page: Page) -> None:
    """Require that no text has become markup."""
    made = page.evaluate(
        """() => document.querySelectorAll(
            "main img, main script, main svg, main iframe, [onerror], a[href^='javascript']"
        ).length"""
    )
    assert made == 0


@pytest.mark.parametrize("fail", [False, True], ids=["output", "error"])
def test_inputs_logs_outputs_and_errors_are_text(
    fail: bool, visit: Visitors, api: httpx.Client
) -> None:
    name = started(api, "echo", text=MARKUP, fail=fail)
    page = visit("alice").go(f"runs/{name}")
    assert finished(api, name) == ("failed" if fail else "succeeded")
    expect(page.get_by_role("log")).to_contain_text(MARKUP)
    expect(page.get_by_role("region", name="Inputs")).to_contain_text(MARKUP)
    expect(page.get_by_role("region", name="Error" if fail else "Outputs")).to_contain_text(MARKUP)
    check_harmless(page)
    page.get_by_role("link", name="Run again").click()
    expect(page.get_by_label("text", exact=False).first).to_have_value(MARKUP)
    check_harmless(page)


def test_addresses_and_tables_in_outputs_are_text(visit: Visitors, api: httpx.Client) -> None:
    name = started(api, "hostile", text=MARKUP)
    page = visit("alice").go(f"runs/{name}")
    outputs = page.get_by_role("region", name="Outputs")
    expect(outputs.get_by_role("columnheader")).to_have_text(MARKUP)
    expect(outputs.get_by_role("cell")).to_have_text(MARKUP)
    expect(outputs).to_contain_text("javascript:alert(1)")
    expect(outputs.get_by_role("link")).to_have_count(0)
    check_harmless(page)


def test_what_a_run_consists_of_is_text(visit: Visitors, api: httpx.Client) -> None:
    name = started(api, "greet", name="Ada")
    asked = dict.fromkeys(("asked_at", "answered_at", "answered_by", "value"))
    asked |= {"run": name, "action": "a1", "name": MARKUP, "prompt": MARKUP, "type": "string"}
    asked |= {"description": MARKUP, "phase": "paused"}
    event = {"message": MARKUP, "count": 1, "last_at": None}
    texts = {"title": MARKUP, "task": MARKUP, "group": MARKUP, "error": MARKUP, "events": [event]}
    visitor = visit("alice")
    finished(api, name)
    root, condition = {"phase": "failed"}, {"phase": "paused", "type": "condition"}
    send_actions(visitor.page, root, texts, {**condition, "condition": asked, "name": "</li>"})
    page = visitor.go(f"runs/{name}")
    tree = page.get_by_role("region", name="Actions")
    for part in (
        tree.get_by_role("button").nth(1),
        tree.locator(".events li"),
        tree.locator("pre"),
    ):
        expect(part).to_have_text(MARKUP)
    expect(page.get_by_role("region", name="Questions").locator(".told")).to_have_text(MARKUP)
    check_harmless(page)


def test_titles_and_descriptions_of_a_schema_are_text(visit: Visitors) -> None:
    visitor = visit("alice")

    def change(route: Any) -> None:
        answer = route.fetch()
        field = {"title": MARKUP, "description": MARKUP, "type": "string", "default": MARKUP}
        either = {"anyOf": [field, {"type": "integer", "title": MARKUP}]}
        inputs = {"type": "object", "properties": {MARKUP: field, "either": either}}
        route.fulfill(response=answer, json={**answer.json(), "inputs": inputs})

    visitor.page.route(f"**/tasks/{TASKS}.greet*", change)
    page = visitor.go(f"tasks/{TASKS}.greet")
    expect(page.locator("form label").first).to_contain_text(MARKUP)
    expect(page.locator("form .hint").nth(1)).to_have_text(MARKUP)
    page.get_by_label("give a value").click()
    expect(page.get_by_role("option").first).to_have_text(MARKUP)
    check_harmless(page)


def test_a_malicious_url_of_the_page_does_no_harm(visit: Visitors) -> None:
    visitor = visit("alice")
    for place in (
        "tasks/%3Cimg%20src=x%20onerror=alert(1)%3E",
        "runs/%2e%2e%2fme",
        "runs/..",
        "runs/%E0%A4%A",
        "constructor/x",
        "tasks?project=%3Cscript%3Ealert(1)%3C/script%3E",
        "runs?phase=__proto__&task=%3Cb%3E",
    ):
        page = visitor.go(place)
        shown = page.locator("main .problem, main .hint:not(:empty):not(:text('Loading'))")
        expect(shown.first).to_be_visible()
        check_harmless(page)

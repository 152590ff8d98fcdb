"""What people do on the page, in a real browser, with the local Flyte."""

import re
import time
from pathlib import Path

import httpx
from playwright.sync_api import Browser, Route, expect

from local_flyte import PEOPLE, LocalFlyte, Mode, sign_in
from local_flyte.testing import wait_until

from ..served import SECRET, TASKS, App, serving_app
from .visiting import Visitors, finished, look_again, started


def test_alice_runs_greet_with_the_keyboard_alone_and_reads_its_output(visit: Visitors) -> None:
    visitor = visit("alice")
    complaints: list[str] = []
    visitor.page.on("console", lambda message: complaints.append(message.text))
    page = visitor.go()
    who = page.get_by_role("group", name="Who you are")
    expect(who).to_contain_text("Alice Adams")
    switch = who.get_by_role("link", name="Switch user")
    expect(switch).to_have_attribute("href", f"{visitor.app.url}/sign-in")
    expect(page.get_by_role("link", name=f"{TASKS}.greet")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("searchbox", name="Search tasks")).to_be_focused()
    page.keyboard.type("greet")
    expect(page.get_by_role("link", name=f"{TASKS}.count")).to_have_count(0)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name=f"{TASKS}.greet")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    expect(page.get_by_text("The name to greet.")).to_be_visible()
    expect(page.get_by_role("group", name="Inputs", exact=True)).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_label("name text, required")).to_be_focused()
    page.keyboard.type("Ada")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Run")).to_be_focused()
    for key in ("Shift+Tab", "Shift+Tab", "Enter"):  # which runs it from a field as well
        page.keyboard.press(key)
    expect(page.get_by_role("region", name="Outputs")).to_contain_text("Hello, Ada.")
    expect(page.get_by_role("region", name="Inputs")).to_contain_text("Ada")
    expect(page.get_by_role("log")).to_contain_text("greeting Ada")
    expect(page.get_by_role("button", name="Abort")).to_be_hidden()
    assert complaints == []  # such as about a report that does not exist


def test_a_run_is_aborted_after_confirmation(visit: Visitors, api: httpx.Client) -> None:
    name = started(api, "count", to=6000)
    page = visit("alice").go(f"runs/{name}")
    expect(page.get_by_role("log")).to_contain_text("1 of 6000")
    expect(page.get_by_role("term").filter(has_text="So far")).to_be_visible()
    page.get_by_role("button", name="Abort").click()
    expect(page.get_by_role("button", name="Let it run")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("button", name="Abort")).to_be_focused()
    page.get_by_role("button", name="Abort").click()
    page.get_by_role("button", name="Abort the run").click()
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_contain_text("Aborted")
    expect(heading).to_be_focused()  # the button is gone
    expect(page.get_by_role("term").filter(has_text="Took")).to_be_visible()
    assert finished(api, name) == "aborted"


def test_running_again_fills_in_the_same_inputs_and_sends_the_changed_ones(
    app: App, visit: Visitors, api: httpx.Client
) -> None:
    name = started(api, "greet", name="Ada", excited=True)
    page = visit("alice").go(f"runs/{name}")
    page.get_by_role("link", name="Run again").click()
    expect(page.get_by_label("name")).to_have_value("Ada")
    expect(page.get_by_label("excited")).to_be_checked()
    page.get_by_label("name").fill("Grace")
    with page.expect_request(lambda request: request.method == "POST") as sent:
        page.get_by_role("button", name="Run").click()
    assert sent.value.url == f"{app.url}/runs/{name}/rerun"
    assert sent.value.post_data_json == {"inputs": {"name": "Grace"}}
    expect(page.get_by_role("region", name="Outputs")).to_contain_text("Hello, Grace!")


def test_running_again_sends_nothing_that_nobody_has_edited(
    visit: Visitors, api: httpx.Client
) -> None:
    old = started(api, "echo", text="two\r\nlines\r\n")
    page = visit("alice").go(f"tasks/{TASKS}.echo?from={old}")
    expect(page.get_by_label("text text")).to_have_value("two\nlines\n")
    with page.expect_response(lambda answer: answer.request.method == "POST") as sent:
        page.get_by_role("button", name="Run").click()
    assert sent.value.request.post_data_json == {"inputs": {}}
    run = sent.value.json()["name"]
    assert finished(api, run) == "succeeded"
    assert api.get(f"/runs/{run}/io").json()["outputs"] == {"o0": "two\r\nlines\r\n"}


def test_enter_runs_no_form_whose_text_is_empty_or_has_several_lines(visit: Visitors) -> None:
    page = visit("alice").go(f"tasks/{TASKS}.greet")
    name = page.get_by_label("name")
    name.press("Enter")  # an empty text is warned of first
    name.fill("Ada")
    for key in ("Shift+Enter", "Enter"):
        name.press(key)
    expect(name).to_have_value("Ada\n\n")
    assert page.url.endswith(f"/tasks/{TASKS}.greet")


def test_bob_sees_whose_run_it_is(visit: Visitors, api: httpx.Client) -> None:
    name = started(api, "greet", name="Ada")
    visitor = visit("bob")
    page = visitor.go("runs")
    expect(page.get_by_text("You have run nothing here yet.")).to_be_visible()
    page.get_by_label("Everyone").check()
    expect(page.get_by_role("group", name="Who you are")).to_contain_text("Bob Brown")
    row = page.get_by_role("listitem").filter(has_text=name)
    expect(row).to_contain_text("Alice Adams")
    row.get_by_role("link").click()
    expect(page.get_by_text("Started by").locator("..")).to_contain_text("Alice Adams")
    page.route("**/me", lambda route: route.fulfill(status=404, json={}))  # its router is removed
    visitor.go("runs")
    expect(row).to_contain_text("Alice Adams")
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.locator("#who")).to_be_hidden()


def test_runs_are_listed_live_filtered_and_paged(
    app: App, visit: Visitors, api: httpx.Client
) -> None:
    oldest = started(api, "count", to=0)
    second = int(time.time())
    wait_until(lambda: int(time.time()) > second)  # Flyte rounds the start time of a run
    names = [started(api, "count", to=0) for _ in range(2)]
    assert {finished(api, name) for name in (oldest, *names)} == {"failed"}
    page = visit("alice").page

    def shorten(route: Route) -> None:
        """Make a few runs fill more than one page."""
        answer = route.fetch()
        route.fulfill(response=answer, body=answer.text().replace("PAGE = 25", "PAGE = 3"))

    page.route("**/page/runs.js", shorten)
    page.goto("about:blank")
    page.goto(f"{app.url}/#/runs?task={TASKS}.count")
    for name in [oldest, *names]:
        row = page.get_by_role("listitem").filter(has_text=name)
        expect(row).to_contain_text("Failed")
    new = started(api, "count", to=6000)
    wait_until(lambda: api.get(f"/runs/{new}").json()["phase"] == "running")
    look_again(page)
    expect(page.get_by_role("listitem").filter(has_text=new)).to_contain_text("Running")
    runs = page.get_by_role("listitem")
    page.get_by_role("combobox", name="Phase").select_option("Failed")
    expect(runs.filter(has_text=new)).to_have_count(0)
    expect(runs).to_have_count(3)
    page.get_by_role("combobox", name="Phase").select_option("Not ended")
    expect(runs).to_have_count(1)
    api.post(f"/runs/{new}/abort", json={})
    assert finished(api, new) == "aborted"
    look_again(page)
    expect(page.get_by_text("No matching runs.")).to_be_visible()
    page.get_by_role("combobox", name="Phase").select_option("Any phase")
    expect(runs).to_have_count(3)
    expect(runs.first).to_contain_text(new)
    expect(runs.filter(has_text=oldest)).to_have_count(0)
    page.get_by_role("link", name="Older runs").click()
    expect(runs).to_have_count(1)
    expect(runs.first).to_contain_text(oldest)


def test_victor_may_only_view(visit: Visitors, api: httpx.Client) -> None:
    name = started(api, "count", to=6000)
    page = visit("victor").go(f"tasks/{TASKS}.greet")
    page.get_by_label("name").fill("Victor")
    run = page.get_by_role("button", name="Run")
    run.click()
    refusal = page.get_by_role("alert")
    expect(refusal).to_contain_text("Flyte does not let you do this")
    expect(refusal).not_to_contain_text("may have started")
    expect(page.get_by_label("name")).to_have_value("Victor")
    expect(run).to_be_enabled()  # rights may be granted in the meantime

    page.goto(f"{page.url.split('#')[0]}#/runs/{name}")
    expect(page.get_by_role("log")).to_contain_text("1 of 6000")
    page.get_by_role("button", name="Abort").click()
    page.get_by_role("button", name="Abort the run").click()
    expect(refusal).to_contain_text("Flyte does not let you do this")
    assert api.get(f"/runs/{name}").json()["phase"] == "running"
    api.post(f"/runs/{name}/abort", json={})
    expect(page.get_by_role("heading", level=1)).to_contain_text("Aborted")
    expect(refusal).to_have_count(0)  # the run has ended


def test_a_run_that_may_have_started_is_not_reported_as_failed(visit: Visitors) -> None:
    page = visit("alice").go(f"tasks/{TASKS}.greet")
    page.get_by_label("name").fill("Ada")
    page.route("**/runs*", lambda route: (route.fetch(), route.abort()))
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_text("The run may have started anyway.")).to_be_visible()
    page.unroute_all()
    page.get_by_role("link", name="its runs", exact=True).click()
    expect(page.get_by_role("listitem")).to_have_count(1)


def test_carol_sees_that_she_has_no_rights(visit: Visitors) -> None:
    visitor = visit("carol")
    for place in ("tasks", "runs"):
        page = visitor.go(place)
        expect(page.get_by_role("group", name="Who you are")).to_contain_text("Carol Clark")
        alert = page.get_by_role("alert")
        expect(alert).to_contain_text("Flyte does not let you do this")
        expect(alert).to_contain_text("Administrators of the project in Flyte can change that.")
    problem = {"title": "Forbidden", "status": 403, "detail": "only on Mondays"}  # an owner's own
    page.route("**/tasks?*", lambda route: route.fulfill(status=403, json=problem))
    visitor.go("tasks")
    expect(alert).to_contain_text("only on Mondays")
    expect(alert).not_to_contain_text("Flyte")


def test_an_anonymous_visitor_can_sign_in_and_continue(visit: Visitors) -> None:
    visitor = visit(None)
    page = visitor.go("tasks")
    expect(page.get_by_role("alert").first).to_contain_text("You are not signed in")
    expect(page.get_by_role("link", name="Sign in")).to_have_count(1)
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Sign in").click()
    expect(opened.value).to_have_url(f"{visitor.app.url}/sign-in")
    expect(opened.value.get_by_text("printed in the terminal")).to_be_visible()
    opened.value.goto(sign_in.choice(visitor.app.url, SECRET))  # as printed
    opened.value.get_by_role("link", name="alice").click()
    expect(opened.value.get_by_role("link", name=f"{TASKS}.greet")).to_be_visible()
    look_again(page)
    expect(page.get_by_role("group", name="Who you are")).to_contain_text("Alice Adams")
    expect(page.get_by_role("link", name=f"{TASKS}.greet")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_typed_inputs_survive_an_expired_session(visit: Visitors) -> None:
    visitor = visit("alice")
    page = visitor.go(f"tasks/{TASKS}.greet")
    page.get_by_label("name").fill("Ada")
    other_tab = page.context.new_page()
    other_tab.goto(sign_in.link(visitor.app.url, "expired", SECRET))
    page.bring_to_front()
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("link", name="Sign in")).to_have_count(1)
    expect(page.get_by_role("group", name="Who you are")).to_have_text("not signed in")
    expect(page.get_by_label("name")).to_have_value("Ada")
    other_tab.goto(sign_in.link(visitor.app.url, "alice", SECRET))
    page.bring_to_front()
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("region", name="Outputs")).to_contain_text("Hello, Ada.")


def test_a_form_takes_every_kind_of_input(visit: Visitors) -> None:
    page = visit("alice").go(f"tasks/{TASKS}.survey")
    page.get_by_role("button", name="Run").click()
    expect(page.locator("[aria-invalid]").first).to_be_focused()  # nothing was given
    page.get_by_label("big", exact=False).first.fill("9007199254740993")
    page.get_by_label("at date and time", exact=False).fill("2026-07-01T12:00:00")
    # Flyte stores a date as a point in time. In Berlin, this one begins on the day before in UTC.
    page.get_by_label("day", exact=False).first.fill("2026-07-02T00:00:00")
    expect(page.get_by_label("since", exact=False)).to_have_value(re.compile("1970-01-01T00:00"))
    page.get_by_label("pause", exact=False).first.fill("1 h 30 min")
    names = page.get_by_role("group", name="names")
    names.get_by_role("button", name="Add item").click()
    names.get_by_role("textbox").last.fill("one")
    names.get_by_role("button", name="Add item").click()
    names.get_by_role("textbox").last.fill("two\nlines")
    weights = page.get_by_role("group", name="weights")
    weights.get_by_role("button", name="Add entry").click()
    weights.get_by_label("Key").fill("x")
    weights.get_by_label("Value").fill("1.5")
    person = page.get_by_role("group", name="person")
    person.get_by_label("name").fill("Ada")
    person.get_by_label("age").fill("36")
    person.get_by_label("born").fill("1815-12-10")
    page.get_by_label("colour", exact=False).select_option("RED")
    note = page.get_by_role("group", name="note")
    note.get_by_label("Kind of value").select_option("text")
    note.get_by_label("Value", exact=True).fill("hello")
    source = page.get_by_role("group", name="source")
    source.get_by_label("Kind of value").select_option("URI")
    source.get_by_label("Value", exact=True).fill("s3://bucket/file.csv")
    page.get_by_role("button", name="Run").click()
    outputs = page.get_by_role("region", name="Outputs")
    expect(outputs).to_contain_text("9007199254740994 2026-07-01T12:00:00")
    expect(outputs).to_contain_text(
        "2026-07-02 5400.0 ['one', 'two\\nlines'] {'x': 1.5} Ada 36 1815-12-10"
    )
    expect(outputs).to_contain_text("red hello s3://bucket/file.csv 1970-01-01")


def test_errors_are_shown_beside_their_fields(visit: Visitors) -> None:
    page = visit("alice").go(f"tasks/{TASKS}.count")
    to = page.get_by_label("to", exact=False).first
    to.fill("many")
    page.get_by_role("button", name="Run").click()
    expect(to).to_have_accessible_description("Give a whole number, such as 42")
    to.fill("99999999999999999999")  # a whole number, but too large for Flyte
    page.get_by_role("button", name="Run").click()
    expect(to).to_have_attribute("aria-invalid", "true")
    expect(to).to_be_focused()
    expect(to).to_have_value("99999999999999999999")


def test_the_page_works_under_a_proxys_path_prefix(visit: Visitors, app: App) -> None:
    page = visit(None).page
    prefix = "http://proxy.example/some/path"

    def hand_on(route: Route) -> None:
        """Do what such a proxy does: sign people in, and pass on its own host name."""
        alice = {"authorization": f"Bearer {PEOPLE['alice'].token}", "origin": app.url}
        url = route.request.url.replace(prefix, app.url)
        route.fulfill(response=route.fetch(url=url, headers=route.request.headers | alice))

    page.route(f"{prefix}/**", hand_on)
    page.goto(f"{prefix}/")
    page.get_by_role("link", name=f"{TASKS}.greet").click()
    page.get_by_label("name").fill("Ada")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("region", name="Outputs")).to_contain_text("Hello, Ada.")
    assert page.url.startswith(f"{prefix}/#/runs/")
    api_docs = page.get_by_role("link", name="API")
    assert api_docs.evaluate("link => link.href") == f"{prefix}/docs"
    page.unroute_all(behavior="ignoreErrors")


def test_on_a_devbox_everybody_is_anonymous_and_sees_a_banner(
    default_project: Path, tmp_path: Path, browser: Browser
) -> None:
    with (
        LocalFlyte(mode=Mode.DEVBOX) as flyte,
        serving_app(default_project, tmp_path / "log", flyte, ALLOW_ANONYMOUS="true") as app,
    ):
        bob = {"Authorization": f"Bearer {PEOPLE['bob'].token}"}
        me = httpx.get(f"{app.url}/me", headers=bob, trust_env=False, timeout=60).json()
        assert (me["anonymous"], me["subject"]) == (True, None)
        visitors = Visitors(browser, app)
        page = visitors(None).go("tasks")
        expect(page.get_by_text("You are anonymous.")).to_be_visible()
        expect(page.get_by_role("group", name="Who you are")).to_contain_text("anonymous")
        expect(page.get_by_role("alert")).to_have_count(0)
        assert visitors.close() == []


def test_a_problem_is_shown_once_and_what_failed_can_be_tried_again(visit: Visitors) -> None:
    visitor = visit("alice")
    problem = {"title": "Service Unavailable", "status": 503}
    visitor.page.route(
        re.compile(r"/(me|tasks)(\?|$)"), lambda route: route.fulfill(status=503, json=problem)
    )
    page = visitor.go("tasks")
    expect(page.get_by_role("alert")).to_contain_text(re.compile("Flyte can.t be reached"))
    expect(page.locator("#banners .problem")).to_have_count(1)
    page.unroute_all()
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("link", name=f"{TASKS}.greet")).to_be_visible()


def test_a_task_with_a_slash_in_its_name_is_opened_and_run(visit: Visitors) -> None:
    visitor = visit("alice")
    odd, real = "odd/name.greet", f"{TASKS}.greet"

    def rename(route: Route) -> None:
        answer = route.fetch(url=route.request.url.replace("odd%2Fname.greet", real))
        route.fulfill(response=answer, body=answer.text().replace(real, odd))

    visitor.page.route(re.compile(r"/tasks[?/]"), rename)
    page = visitor.go("tasks")
    page.get_by_role("link", name=odd).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(odd)
    page.get_by_label("name").fill("Ada")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("region", name="Outputs")).to_contain_text("Hello, Ada.")


def test_a_number_that_may_be_a_text_is_refused_at_its_field(visit: Visitors) -> None:
    page = visit("alice").go(f"tasks/{TASKS}.measure")
    size = page.get_by_role("group", name="size")
    kind = size.get_by_label("Kind of value")
    size.get_by_label("Kind of value").select_option("number")
    size.get_by_label("Value", exact=True).fill("NaN")
    page.get_by_role("button", name="Run").click()
    expect(kind).to_have_accessible_description(re.compile("a number or a text|ambiguous"))
    size.get_by_label("Value", exact=True).fill("-0.0")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("region", name="Outputs")).to_contain_text("float -0.0")

"""Tasks on the page: who sees them, their forms, files for them, and what happens to their runs."""

import re
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Locator, Page, Route, expect

from local_flyte import PEOPLE, LocalFlyte, sign_in
from local_flyte.testing import wait_until
from passthrough.limits import Limits

from ..served import SECRET, TASKS, App
from .page_fixtures import Visit, finished, go, look_again, started


def test_task_can_be_run_with_keyboard_alone(visit: Visit, app: App) -> None:
    page = visit("alice")
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    go(page)
    greet = page.get_by_role("link", name=f"{TASKS}.greet")
    name = page.get_by_label("name text, required")
    expect(greet).to_be_visible()
    switch = page.get_by_role("link", name="Switch user")
    expect(switch).to_have_attribute("href", f"{app.url}/sign-in")

    def press(keys: str, focused: Locator) -> None:
        for key in keys.split():
            page.keyboard.press(key)
        expect(focused).to_be_focused()

    press("Tab", page.get_by_role("link", name="Skip to content"))
    press("Enter Tab", page.get_by_role("searchbox", name="Search tasks"))
    page.keyboard.type("greet")
    expect(page.get_by_role("link", name=f"{TASKS}.count")).to_have_count(0)
    press("Tab", greet)
    press("Enter", page.get_by_role("heading", level=1))
    expect(page.get_by_text("The name to greet.")).to_be_visible()
    expect(page.get_by_role("group", name="Inputs", exact=True)).to_be_visible()
    press("Tab Tab Enter", name)  # Enter runs no form whose text is empty or has several lines
    expect(name).to_have_accessible_description(re.compile("This text is empty"))
    page.keyboard.type("Ada")
    press("Shift+Enter Enter", name)
    expect(name).to_have_value("Ada\n\n")
    press("Backspace Backspace Tab Tab", page.get_by_role("button", name="Run"))
    press("Shift+Tab Shift+Tab", name)
    page.keyboard.press("Enter")  # it runs this one
    for region, text in {"Outputs": "Hello, Ada.", "Inputs": "Ada", "Log": "greeting Ada"}.items():
        expect(page.get_by_role("region", name=region)).to_contain_text(text)
    expect(page.get_by_role("button", name="Abort")).to_be_hidden()
    assert complaints == []  # such as about a report that does not exist


def test_run_again_sends_only_edited_inputs(visit: Visit, api: httpx.Client) -> None:
    name = started(api, "greet", name="two\r\nlines", excited=True)
    page = visit("alice", f"runs/{name}")
    edits: dict[str, dict[str, str]] = {"Hello, two\r\nlines!": {}, "Hello, Ada!": {"name": "Ada"}}
    for output, edited in edits.items():
        page.get_by_role("link", name="Run again").click()
        expect(page.get_by_label("name text")).to_have_value("two\nlines")
        expect(page.get_by_label("excited")).to_be_checked()
        for label, text in edited.items():
            page.get_by_label(label).fill(text)
        with page.expect_response(lambda answer: answer.request.method == "POST") as sent:
            page.get_by_role("button", name="Run").click()
        assert sent.value.url.endswith(f"/runs/{name}/rerun")
        assert sent.value.request.post_data_json == {"inputs": edited}
        name = sent.value.json()["name"]
        assert finished(api, name) == "succeeded"
        assert api.get(f"/runs/{name}/io").json()["outputs"] == {"o0": output}


def test_refused_run_and_lost_response_are_reported(visit: Visit) -> None:
    page = visit("victor", f"tasks/{TASKS}.greet")  # who may only view
    page.get_by_label("name").fill("Victor")
    page.get_by_role("button", name="Run").click()
    refusal = page.get_by_role("alert")
    expect(refusal).to_contain_text("Flyte does not let you do this")
    expect(refusal).to_contain_text("Administrators of the project in Flyte can change that.")
    expect(page.get_by_text("may have started")).to_have_count(0)
    expect(page.get_by_label("name")).to_have_value("Victor")
    page = visit("alice", f"tasks/{TASKS}.greet")
    page.get_by_label("name").fill("Ada")
    page.route("**/runs*", lambda route: (route.fetch(), route.abort()))
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_text("The run may have started anyway.")).to_be_visible()
    page.unroute_all()
    page.get_by_role("link", name="its runs", exact=True).click()
    expect(page.get_by_role("listitem")).to_have_count(1)


def test_view_continues_after_sign_in_in_another_tab(visit: Visit, app: App) -> None:
    page = visit(None, f"tasks/{TASKS}.greet")
    who = page.get_by_role("group", name="Who you are")
    sign_in_link = page.get_by_role("link", name="Sign in")
    expect(page.get_by_role("alert").first).to_contain_text("You are not signed in")
    expect(sign_in_link).to_have_count(1)
    with page.expect_popup() as opened:
        sign_in_link.click()
    other_tab = opened.value
    expect(other_tab).to_have_url(f"{app.url}/sign-in")
    other_tab.goto(sign_in.choice(app.url, SECRET))
    other_tab.get_by_role("link", name="alice").click()
    expect(other_tab.get_by_role("link", name=f"{TASKS}.greet")).to_be_visible()
    look_again(page)
    expect(who).to_contain_text("Alice Adams")
    expect(page.get_by_role("alert")).to_have_count(0)
    page.get_by_label("name").fill("Ada")
    other_tab.goto(sign_in.link(app.url, "expired", SECRET))
    page.bring_to_front()
    page.get_by_role("button", name="Run").click()
    expect(sign_in_link).to_have_count(1)
    expect(page.get_by_role("alert")).to_have_count(1)
    expect(who).to_have_text("not signed in")
    expect(page.get_by_label("name")).to_have_value("Ada")
    other_tab.goto(sign_in.link(app.url, "alice", SECRET))
    page.bring_to_front()
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("region", name="Outputs")).to_contain_text("Hello, Ada.")


def test_form_is_not_sent_after_user_changes(visit: Visit, app: App, api: httpx.Client) -> None:
    """The user changes in a second window, and the first window does not notice the change."""
    name = started(api, "publish", text="the news")
    page = visit("alice", f"tasks/{TASKS}.greet")
    who = page.get_by_role("group", name="Who you are")
    expect(who).to_contain_text("Alice Adams")
    page.get_by_label("name").fill("Ada")
    page.context.request.get(sign_in.link(app.url, "bob", SECRET), max_redirects=0)
    page.get_by_role("button", name="Run").click()
    refusal = page.get_by_role("alert")
    expect(refusal).to_contain_text("You are now signed in as Bob Brown. Nothing was sent.")
    expect(page.get_by_text("may have started")).to_have_count(0)
    expect(who).to_contain_text("Bob Brown")
    expect(page.get_by_text("Every call to Flyte is made as Bob Brown.")).to_be_visible()
    expect(page.get_by_label("name")).to_have_value("Ada")
    assert [run["name"] for run in api.get("/runs").json()] == [name]
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_text("Started by").locator("..")).to_contain_text("Bob Brown")
    go(page, f"runs/{name}")
    page.context.request.get(sign_in.link(app.url, "alice", SECRET), max_redirects=0)
    page.get_by_role("button", name="Yes").click()
    expect(page.get_by_role("alert")).to_contain_text("now signed in as Alice Adams")
    expect(page.get_by_role("button", name="Yes")).to_be_focused()
    assert api.get(f"/runs/{name}/conditions").json()[0]["value"] is None
    page.context.request.get(sign_in.link(app.url, "bob", SECRET), max_redirects=0)
    page.evaluate("dispatchEvent(new Event('focus'))")
    expect(page.get_by_text("You are now signed in as Bob Brown.")).to_be_visible()


def test_reload_button_for_sign_in_is_shown_once(visit: Visit) -> None:
    """The proxy serves the page to anyone, and the app does not know the sign-in URL."""
    page = visit(None)
    unknown = {"status": 401, "json": {"title": "Unauthorized", "status": 401}}
    page.route("**/tasks?*", lambda route: route.fulfill(**unknown))
    page.route("**/me", lambda route: route.fulfill(**unknown))
    go(page, "tasks")
    page.get_by_role("button", name="Reload to sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("SIGN_IN_URL")
    expect(page.get_by_role("button", name="Reload to sign in")).to_have_count(0)


def test_sign_out_url_is_linked(visit: Visit) -> None:
    page = visit("alice")
    me = dict.fromkeys(("subject", "email", "sign_in"))
    me |= {"name": "Ada", "anonymous": False, "sign_out": "/oauth2/sign_out?rd=/"}
    page.route("**/me", lambda route: route.fulfill(json=me))
    go(page, "tasks")
    link = page.get_by_role("link", name="Sign out")
    expect(link).to_have_attribute("href", re.compile(r"^http://.*/oauth2/sign_out\?rd=/$"))


def test_old_browser_is_told_to_update(visit: Visit) -> None:
    page = visit("alice")
    page.add_init_script("delete JSON.rawJSON")
    go(page, "tasks")
    expect(page.get_by_text("This page needs a newer browser: Chrome")).to_be_visible()


def test_form_accepts_every_type_and_reports_errors(visit: Visit) -> None:
    page = visit("alice", f"tasks/{TASKS}.survey")
    page.get_by_role("button", name="Run").click()
    expect(page.locator("[aria-invalid]").first).to_be_focused()  # nothing was given
    big = page.get_by_label("big whole number")
    big.fill(too_large := "99999999999999999999")
    page.get_by_label("at date and time", exact=False).fill("2026-07-01T12:00:00")
    # Flyte stores a date as a point in time. In Berlin, this one begins on the day before in UTC.
    page.get_by_label("day", exact=False).first.fill("2026-07-02T00:00:00")
    expect(page.get_by_label("since", exact=False)).to_have_value(re.compile("1970-01-01T00:00"))
    page.get_by_label("pause", exact=False).first.fill("1 h 30 min")
    names = page.get_by_role("group", name="names")
    for text in ("one", "two\nlines"):
        names.get_by_role("button", name="Add item").click()
        names.get_by_role("textbox").last.fill(text)
    weights = page.get_by_role("group", name="weights")
    weights.get_by_role("button", name="Add entry").click()
    weights.get_by_label("Key").fill("x")
    weights.get_by_label("Value").fill("1.5")
    person = page.get_by_role("group", name="person")
    for label, text in {"name": "Ada", "age": "36", "born": "1815-12-10"}.items():
        person.get_by_label(label).fill(text)
    page.get_by_label("colour", exact=False).select_option("RED")
    unions = {"note": ("text", "hello"), "source": ("file", "s3://bucket/file.csv")}
    for union, (kind, text) in {**unions, "either": ("number", "NaN")}.items():
        group = page.get_by_role("group", name=union)
        group.get_by_label("Kind of value").select_option(kind)
        group.get_by_label("Value", exact=True).fill(text)
    page.get_by_role("button", name="Run").click()
    ambiguous = re.compile("a number or a text|several of the types")
    expect(group.get_by_label("Kind of value")).to_have_accessible_description(ambiguous)
    group.get_by_label("Value", exact=True).fill("-0.0")
    page.get_by_role("button", name="Run").click()
    expect(big).to_have_attribute("aria-invalid", "true")
    expect(big).to_be_focused()
    expect(big).to_have_value(too_large)
    big.fill("9007199254740993")
    page.get_by_role("button", name="Run").click()
    outputs = page.get_by_role("region", name="Outputs")
    expect(outputs).to_contain_text("9007199254740994 2026-07-01T12:00:00")
    expected = "2026-07-02 5400.0 ['one', 'two\\nlines'] {'x': 1.5} Ada 36 1815-12-10 red hello"
    expect(outputs).to_contain_text(f"{expected} s3://bucket/file.csv 1970-01-01")
    expect(outputs).to_contain_text(" -0.0")


def test_slash_in_task_name_works_under_path_prefix(visit: Visit, app: App) -> None:
    page = visit(None)
    prefix = "http://proxy.example/some/path"
    odd, real = "odd/name.greet", f"{TASKS}.greet"

    def hand_on(route: Route) -> None:
        """Do what such a proxy does: sign people in, and pass on its own host name."""
        alice = {"authorization": f"Bearer {PEOPLE['alice'].token}", "origin": app.url}
        url = route.request.url.replace(prefix, app.url).replace("odd%2Fname.greet", real)
        answer = route.fetch(url=url, headers=route.request.headers | alice)
        text = answer.text().replace(real, odd) if "/tasks" in url else None
        route.fulfill(response=answer, body=text)

    page.route(f"{prefix}/**", hand_on)
    page.goto(f"{prefix}/")
    page.get_by_role("link", name=odd).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(odd)
    page.get_by_label("name").fill("Ada")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("region", name="Outputs")).to_contain_text("Hello, Ada.")
    assert page.url.startswith(f"{prefix}/#/runs/")
    api_docs = page.get_by_role("link", name="API")
    assert api_docs.evaluate("link => link.href") == f"{prefix}/docs"
    page.unroute_all(behavior="ignoreErrors")


# Files


ROW = b"Berlin,Spree,3677472\n"
LINES = 1_000_000  # 21 MB


@pytest.fixture
def files(visit: Visit) -> Page:
    return visit("alice", f"tasks/{TASKS}.count_lines")


def choose(page: Page, file: Path, content: bytes = ROW) -> None:
    file.write_bytes(content)
    page.locator("[type=file]").last.set_input_files(file)


def drop(page: Page, file: Path, target: str) -> None:
    """Drop a file of the machine on an element, as a person does with the mouse."""
    box = page.locator(target).first.bounding_box()
    assert box
    place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    devtools = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
    for step in ("dragEnter", "dragOver", "drop"):
        devtools.send("Input.dispatchDragEvent", {"type": step, "data": data, **place})


def test_chosen_or_dropped_20_mb_file_is_uploaded(files: Page, tmp_path: Path) -> None:
    text = files.get_by_label("text file, required")
    expect(text).to_have_accessible_description("What has the lines.")
    choose(files, tmp_path / "odd.json", b"[" + b"1e400," * 20_000)  # is not read as JSON
    expect(text).to_have_value(re.compile("/odd.json$"))
    choose(files, rivers := tmp_path / "rivers 2026.csv", ROW * LINES)
    drop(files, rivers, "[type=file]")
    expect(files.get_by_text("Uploaded.")).to_have_count(2)
    expect(text).to_have_value(re.compile("/rivers_2026.csv$"))
    files.get_by_role("button", name="Run").click()
    outputs = files.get_by_role("region", name="Outputs")
    for told in (str(LINES), "csv", "/rivers_2026.csv"):
        expect(outputs).to_contain_text(told)


def test_failed_or_unfinished_upload_is_reported(
    files: Page, visit: Visit, flyte: LocalFlyte, tmp_path: Path
) -> None:
    text = files.get_by_label("text file")
    progress = files.get_by_role("progressbar", name="Upload")

    def says(words: str, field: Locator = text) -> None:
        expect(field).to_have_accessible_description(re.compile(words))

    sent: list[str] = []
    files.on("request", lambda request: sent.append(request.url))
    with (large := tmp_path / "large.csv").open("wb") as file:
        file.truncate(Limits().max_upload_bytes + 1)
    text.fill("s3://bucket/before.csv")
    files.locator("[type=file]").last.set_input_files(large)
    says("A file may have up to 100 MB")
    for field in (files.locator("[type=file]").last, text):  # not the file before
        expect(field).to_have_value("")
    assert not [url for url in sent if "/files" in url]
    with flyte.hang("CreateUploadLocation"):
        choose(files, tmp_path / "small.csv")
        expect(progress).to_be_visible()
        files.get_by_role("button", name="Run").click()
        says("The file is still being uploaded")
        text.fill("s3://bucket/other.csv")  # which ends it
        expect(progress).to_be_hidden()
        wait_until(lambda: not flyte.open_calls("CreateUploadLocation"))
    expect(text).to_have_value("s3://bucket/other.csv")
    files.route("**/limits.json", lambda route: route.fulfill(json={"max_upload_bytes": 2_500_000}))
    choose(files, tmp_path / "larger.csv", ROW * 200_000)
    says("A file may have up to 2.5 MB")
    files.unroute_all()
    text.fill("s3://bucket/other.csv")
    expect(text).not_to_have_attribute("aria-invalid", "true")
    proxys = {"status": 502, "body": "<h1>Bad Gateway</h1>", "content_type": "text/html"}
    files.route("**/files?*", lambda route: route.fulfill(**proxys))
    choose(files, tmp_path / "small.csv")
    says("The file was not uploaded: The app or Flyte has failed")
    page = visit("victor", f"tasks/{TASKS}.count_lines")
    choose(page, tmp_path / "small.csv")
    says("The file was not uploaded: .*victor", page.get_by_label("text file"))

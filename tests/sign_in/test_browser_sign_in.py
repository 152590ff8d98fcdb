"""Users who sign in with a browser: their sessions, streams and tabs."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import get_chromium
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from local_flyte.testing import events, wait_until

from ..baking import BIN, ended
from ..browser.page_fixtures import look_again
from ..served import TASKS
from .conftest import Chain

RUN = """(body) => fetch("tasks/page-tests.greet/runs?wait=60", {
    method: "POST", headers: {"content-type": "application/json"}, body: JSON.stringify(body)
}).then((response) => response.json())"""


@pytest.fixture(scope="module")  # no longer: an event loop runs in this thread meanwhile
def browser() -> Iterator[Browser]:
    chromium = get_chromium.find()
    if not chromium:
        pytest.skip("there is no Chromium: install it, or set CHROMIUM")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=chromium, args=["--disable-gpu"])


def sign_in(page: Page, sub: str) -> None:
    page.fill("input[name=sub]", sub)
    page.click("button")
    expect(page.locator("#who")).to_contain_text(sub)


def tab_of(browser: Browser, chain: Chain, sub: str) -> Page:
    """Return a tab of a new browser window, in which somebody signs in."""
    page = browser.new_context(ignore_https_errors=True, base_url=chain.url).new_page()
    page.goto("/")
    sign_in(page, sub)
    return page


def test_two_browsers_run_tasks_as_their_own_users(browser: Browser, chain: Chain) -> None:
    tabs = {sub: tab_of(browser, chain, sub) for sub in ("alice", "bob")}
    for sub, tab in tabs.items():
        made = tab.evaluate(RUN, {"inputs": {"name": sub}})
        assert (made["executed_by"], made["phase"]) == ({"subject": sub, "name": None}, "succeeded")
        assert made["outputs"] == {"o0": f"Hello, {sub}."}
    for sub, tab in tabs.items():
        mine = tab.evaluate("fetch('runs?mine=true').then((response) => response.json())")
        assert {run["executed_by"]["subject"] for run in mine} == {sub}


def test_tab_shows_new_user_after_second_sign_in(browser: Browser, chain: Chain) -> None:
    tab = tab_of(browser, chain, "alice")
    other = tab.context.new_page()
    other.goto("/oauth2/start?rd=/")
    sign_in(other, "bob")
    look_again(tab)
    expect(tab.locator("#who")).to_contain_text("bob")
    assert tab.evaluate(RUN, {"inputs": {"name": "x"}})["executed_by"]["subject"] == "bob"

    other.goto(str(tab.get_by_role("link", name="Sign out").get_attribute("href")))
    tab.goto("/#/runs")
    expect(tab.locator("#who")).to_have_text("not signed in")
    other.goto("/")
    sign_in(other, "alice")
    look_again(tab)
    expect(tab.locator("#who")).to_contain_text("alice")


@pytest.mark.parametrize(("store", "served"), [("redis", 8), ("cookie", 1)])
def test_parallel_token_refresh_succeeds_only_with_redis(
    chain: Chain, store: str, served: int
) -> None:
    """The provider accepts a refresh token once, and only Redis has a lock."""
    flags = "--cookie-refresh=1s", f"--session-store-type={store}"
    with chain.behind(*flags) as changed, closing(changed.signed_in("alice")) as alice:
        cookies = {"Cookie": "; ".join(f"{one.name}={one.value}" for one in alice.cookies.jar)}
        signed_in = time.monotonic()
        wait_until(lambda: time.monotonic() > signed_in + 3)  # it counts in whole seconds

        def get_me(_: int) -> int:
            with changed.client() as client:
                return client.get("/me", headers=cookies).status_code

        with ThreadPoolExecutor(8) as pool:
            statuses = [*pool.map(get_me, range(8))]
    assert (statuses.count(200), statuses.count(401)) == (served, 8 - served)


def test_stream_outlives_token_and_reconnects_with_new_token(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain.flyte.clear_calls()
    monkeypatch.setattr(chain.provider, "lifetime", 1)  # and Envoy's clock skew of 10 seconds
    path = "/flyteidl2.project.ProjectService/ListProjects"
    with (
        chain.behind("--cookie-refresh=1ms") as changed,
        closing(changed.signed_in("alice")) as alice,
    ):
        run = alice.post(f"/tasks/{TASKS}.count/runs", json={"inputs": {"to": 80}}).json()["name"]
        with alice.stream("GET", f"/runs/{run}/events") as stream:
            following = events(stream)
            phases = [next(following)]
            (watch,) = [call for call in chain.flyte.calls if call.method.startswith("Watch")]
            token = {"Authorization": watch.headers["authorization"]}
            wait_until(lambda: alice.post(chain.envoy + path, json={}, headers=token).is_error)
            phases += following  # the watch goes on; the next call is refused
            problem = phases.pop()
        assert json.loads(phases[-1].data)["phase"] == "running"
        assert (problem.type, json.loads(problem.data)["status"]) == ("problem", 401)
        reconnected = alice.get(f"/runs/{run}/events", headers={"Last-Event-ID": phases[-1].id})
        assert '"phase":"succeeded"' in reconnected.text


@pytest.mark.parametrize("name", ["oauth2-proxy.cfg", "envoy.yaml"])
def test_proxy_with_placeholder_in_config_does_not_start(chain: Chain, name: str) -> None:
    page = chain.page_file(name).splitlines()
    used = (chain.folder / name).read_text("utf-8").splitlines()
    command = {
        "oauth2-proxy.cfg": f"{chain.programs}/oauth2-proxy --config-test --config",
        "envoy.yaml": f"{BIN}/envoy --mode validate -c",
    }[name]
    numbers = [number for number, line in enumerate(page) if "{REPLACE" in line.split("#")[0]]
    assert len(numbers) > 7
    for number in numbers:
        lines = [*used[:number], page[number], *used[number + 1 :]]
        (changed := chain.folder / f"changed-{name}").write_text("\n".join(lines), "utf-8")
        done = ended([*command.split(), changed], chain.folder)
        assert done.returncode, page[number]

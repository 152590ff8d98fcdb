"""Tests of the sign-in pages in development, over real connections."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from local_flyte import PEOPLE
from local_flyte.sign_in import SignIn
from local_flyte.testing import client_of, serving

SECRET = "as-printed"
ALICE = f"/sign-in/alice?secret={SECRET}"
KNOWN = {name: [PEOPLE[name].cookie.partition("=")[2], "may do things"] for name in PEOPLE}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond with the path and the credentials of the request."""
    request = Request(scope, receive)
    credentials = (request.headers.get(name, "") for name in ("cookie", "authorization"))
    text = f"{request.method} {request.url.path} {''.join(credentials)}"
    await PlainTextResponse(text)(scope, receive, send)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(SignIn(app, SECRET, KNOWN, port=1), lifespan="off") as url:
        yield url


@pytest.fixture
def browser(url: str) -> Iterator[httpx.Client]:
    with client_of(url, None) as client:
        yield client


def check_private(page: httpx.Response) -> None:
    """Check that the page is not cached, sends no referrer, and runs no scripts."""
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "no-referrer"
    policy = page.headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "frame-ancestors 'none'"} <= {*policy}
    assert not any(part.startswith("script-src") for part in policy)
    assert "/page/" not in page.text  # a project may have no web UI
    assert not any(person.cookie in page.text for person in PEOPLE.values())


def test_foreign_host_headers_are_refused(browser: httpx.Client) -> None:
    for status, hosts in (
        (200, ["127.0.0.1", "LocalHost:8080", "[::1]:1"]),
        (400, ["evil.example:8080", "localhost.evil.example", "0.0.0.0", ""]),
    ):
        for host in hosts:
            for path in ("/tasks", f"/sign-in?secret={SECRET}"):
                assert browser.get(path, headers={"Host": host}).status_code == status, host


def test_path_similar_to_sign_in_reaches_app(browser: httpx.Client) -> None:
    for path in ("/sign-in-or-not", "/tasks/sign-in", "/sign-outside"):
        assert browser.post(path).text == f"POST {path} "


def test_sign_in_link_sets_cookies(browser: httpx.Client) -> None:
    response = browser.get(ALICE)
    assert (response.status_code, response.headers["location"]) == (303, "/")
    check_private(response)
    value = f"{PEOPLE['alice'].cookie.partition('=')[2]}; HttpOnly; Path=/; SameSite=lax"
    cookies = response.headers.get_list("set-cookie")
    # The first cookie is for this app, the second for deployed apps.
    assert cookies == [f"flyte_at-1={value}", f"flyte_at={value}"]
    assert browser.get(ALICE.replace("alice", "mallory")).status_code == 404


def test_each_local_app_has_own_sign_in(browser: httpx.Client) -> None:
    """Browsers send the cookies of a host to all ports."""
    own = browser.get(ALICE).headers["set-cookie"].partition(";")[0]
    browser.cookies.clear()
    others = "flyte_at=of-another-app; flyte_at-2=of-another-app; theme=dark"
    text = browser.get("/", headers={"Cookie": f"{others}; {own}"}).text
    assert text == f"GET / theme=dark; {PEOPLE['alice'].cookie}"
    text = browser.get("/", headers={"Cookie": others}).text
    assert text == "GET / flyte_at=of-another-app; theme=dark"


def test_token_file_replaces_cookie_but_not_authorization_header(tmp_path: Path) -> None:
    """The token file is used with a remote Flyte, for which the browser has no cookie."""
    (token_file := tmp_path / "token").write_text("first")
    signing_in = SignIn(app, SECRET, KNOWN, port=1, token_file=str(token_file))
    with serving(signing_in, lifespan="off") as url, client_of(url, None) as browser:
        assert browser.get("/").text == "GET / "
        browser.get(ALICE)
        assert dict(browser.cookies).keys() == {"flyte_at-1"}
        assert browser.get("/").text == "GET / Bearer first"
        token_file.write_text("renewed")
        assert browser.get("/").text == "GET / Bearer renewed"
        assert browser.get("/", headers={"Authorization": "Bearer own"}).text == "GET / Bearer own"
        browser.cookies = httpx.Cookies({"flyte_at-1": "forged"})
        assert browser.get("/").text == "GET / "


def test_sign_in_without_secret_is_refused(browser: httpx.Client) -> None:
    for path in ("/sign-in", "/sign-in/alice", "/sign-out"):
        response = browser.get(path, params={"secret": "ü"})
        assert response.status_code == 403
        assert "set-cookie" not in response.headers
        assert "terminal" in response.text
        assert SECRET not in response.text
        assert "alice" not in response.text


def test_sign_in_page_lists_users(browser: httpx.Client) -> None:
    page = browser.get("/sign-in", params={"secret": SECRET})
    assert page.status_code == 200
    assert "set-cookie" not in page.headers  # no user is chosen
    check_private(page)
    *links, sign_out = re.findall(r'<a .*?href="(.*?)"', page.text)
    for name, link in zip(KNOWN, links, strict=True):
        browser.get(link)
        assert browser.get("/").text == f"GET / {PEOPLE[name].cookie}"
    check_private(browser.get("/sign-in"))
    assert browser.get(browser.get(sign_out).headers["location"]).is_success
    assert browser.get("/").text == "GET / "
    assert browser.get("/sign-in").status_code == 403

"""The sign-in around the app in development, over real connections."""

import asyncio
import re
import socket
import threading
from collections.abc import Iterator

import httpx
import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from local_flyte import PEOPLE, sign_in
from local_flyte.same_user import is_known
from local_flyte.sign_in import SignIn

SECRET = "as-printed"
KNOWN = {name: [PEOPLE[name].cookie.partition("=")[2], "may do things"] for name in PEOPLE}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the request's path and cookies."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": scope["path"]})
        await send({"type": "websocket.close"})
        return
    request = Request(scope, receive)
    text = f"{request.method} {request.url.path} {request.headers.get('cookie', '')}"
    await PlainTextResponse(text)(scope, receive, send)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    config = uvicorn.Config(SignIn(app, SECRET, KNOWN), lifespan="off", log_level="warning")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join()


@pytest.fixture
def browser(port: int) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:
        yield client


def follow_link(browser: httpx.Client, name: str, secret: str = SECRET) -> httpx.Response:
    return browser.get(f"/sign-in/{name}", params={"secret": secret})


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "LocalHost:8080", "[::1]:1"])
def test_the_names_of_this_machine_are_accepted(browser: httpx.Client, host: str) -> None:
    assert browser.get("/tasks", headers={"Host": host}).text == "GET /tasks "


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil.example:8080",
        "192.168.0.1",
        "0.0.0.0",
        "127.0.0.1@evil.example",
        "",
    ],
)
def test_a_foreign_host_name_for_this_machine_is_refused(browser: httpx.Client, host: str) -> None:
    for path in ("/", "/me", "/sign-in", f"/sign-in/alice?secret={SECRET}"):
        response = browser.get(path, headers={"Host": host})
        assert response.status_code == 400
        assert "set-cookie" not in response.headers


def test_another_name_for_this_machine_is_refused_to_websockets(port: int) -> None:
    with (
        socket.create_connection(("127.0.0.1", port)) as connection,
        pytest.raises(InvalidStatus),
    ):
        connect("ws://evil.example/watch", sock=connection, proxy=None, open_timeout=60)


def test_all_other_paths_belong_to_the_app(browser: httpx.Client, port: int) -> None:
    for path in ("/", "/sign-in-or-not", "/sign", "/tasks/sign-in", "/sign-outside"):
        assert browser.get(path).text == f"GET {path} "
        assert browser.post(path).text == f"POST {path} "
    with connect(f"ws://127.0.0.1:{port}/sign-in", proxy=None, open_timeout=60) as websocket:
        assert websocket.recv() == "/sign-in"


@pytest.mark.parametrize("name", ["alice", "carol"])
def test_following_a_link_signs_that_person_in(browser: httpx.Client, name: str) -> None:
    response = follow_link(browser, name)
    assert response.status_code == 303
    assert response.headers["location"] == "/"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["cache-control"] == "no-store"
    (cookie,) = response.headers.get_list("set-cookie")
    assert cookie == f"{PEOPLE[name].cookie}; HttpOnly; Path=/; SameSite=lax"
    assert browser.get("/").text == f"GET / {PEOPLE[name].cookie}"


@pytest.mark.parametrize("secret", ["", "wrong", SECRET[:-1], "ü"])
def test_only_printed_links_sign_in(browser: httpx.Client, secret: str) -> None:
    for path in ("/sign-in/alice", "/sign-out"):
        response = browser.get(path, params={"secret": secret})
        assert response.status_code == 403
        assert "set-cookie" not in response.headers
        assert "terminal" in response.text


def test_an_unknown_person_cannot_be_chosen(browser: httpx.Client) -> None:
    assert follow_link(browser, "mallory").status_code == 404
    assert browser.post(f"/sign-in/alice?secret={SECRET}").status_code == 405


def links_of(page: httpx.Response) -> list[str]:
    return re.findall(r'<a .*?href="(.*?)"', page.text)


def test_the_first_link_leads_to_a_choice_of_people(browser: httpx.Client) -> None:
    page = browser.get("/sign-in", params={"secret": SECRET})
    assert page.status_code == 200
    assert "set-cookie" not in page.headers  # nobody is chosen
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert not any(person.cookie in page.text for person in PEOPLE.values())
    *links, out = links_of(page)
    assert len(links) == len(KNOWN)
    for name, link in zip(KNOWN, links, strict=True):
        browser.get(link)
        assert browser.get("/").text == f"GET / {PEOPLE[name].cookie}"
    browser.get(out)
    assert browser.get("/").text == "GET / "


@pytest.mark.parametrize("secret", ["", "wrong", SECRET[:-1], "ü"])
def test_only_the_printed_link_shows_the_choice_of_people(
    browser: httpx.Client, secret: str
) -> None:
    page = browser.get("/sign-in", params={"secret": secret})
    assert page.status_code == 403
    assert SECRET not in page.text
    assert "alice" not in page.text


def test_where_only_this_user_can_connect_the_choice_needs_no_link(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    transport = httpx.ASGITransport(SignIn(app, SECRET, KNOWN, private=True))

    async def ask(path: str) -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get(path)

    assert "/sign-in/alice?" in asyncio.run(ask("/sign-in")).text
    for path in ("/sign-in/alice", "/sign-out"):
        assert asyncio.run(ask(path)).status_code == 403
    for name in sign_in.FORWARDING:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sign_in, "CONTAINERS", ())
    assert sign_in.is_private() == is_known()
    monkeypatch.setattr(sign_in, "CONTAINERS", ("/",))
    assert not sign_in.is_private()
    monkeypatch.setattr(sign_in, "CONTAINERS", ())
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.1 50000 192.0.2.2 22")
    assert not sign_in.is_private()


def test_without_people_there_is_no_sign_in() -> None:
    transport = httpx.ASGITransport(SignIn(app, SECRET, {}))

    async def ask(path: str) -> str:
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return (await client.get(path)).text

    for path in ("/sign-in", "/sign-in/alice", "/sign-out"):
        assert asyncio.run(ask(f"{path}?secret={SECRET}")) == f"GET {path} "


def test_a_signed_in_user_can_choose_another_person(browser: httpx.Client) -> None:
    unknown = browser.get("/sign-in")
    assert unknown.status_code == 403
    assert SECRET not in unknown.text
    follow_link(browser, "alice")
    page = browser.get("/sign-in")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert "script-src" not in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"
    assert not any(person.cookie in page.text for person in PEOPLE.values())
    to_alice, to_bob, *_, out = links_of(page)
    assert "/alice?" in to_alice
    browser.get(to_bob)
    assert browser.get("/").text == f"GET / {PEOPLE['bob'].cookie}"
    signed_out = browser.get(out)
    assert browser.get(signed_out.headers["location"]).is_success
    assert browser.get("/").text == "GET / "

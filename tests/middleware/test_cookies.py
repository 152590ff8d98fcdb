"""The forwarded cookies, and the Vary header for caches."""

import asyncio
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from .harness import (
    ALICE,
    COOKIE,
    NO_OPTION,
    Class,
    Extractors,
    Probe,
    ask,
    http_scope,
    request,
    sdk_fails,
)

NO_VARY = "answers to cookies can be served from a cache to someone else"


@sdk_fails(NO_VARY)
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], b"Cookie"),
        ([b"Origin"], b"Origin, Cookie"),
        ([b"Origin", b"Accept, X"], b"Origin, Accept, X, Cookie"),
        ([b"*"], b"*, Cookie"),
    ],
)
def test_answers_to_cookies_vary_on_cookie(
    either_class: Class, before: list[bytes], after: bytes
) -> None:
    probe = Probe((b"X-First", b"1"), *((b"Vary", value) for value in before), (b"x-last", b"1"))
    answer = asyncio.run(request(either_class(probe), http_scope(headers=[COOKIE, ALICE])))
    assert answer.header(b"vary") == [after]
    others = [(name, value) for name, value in answer.headers if name.lower() != b"vary"]
    assert others == [(b"content-length", b"2"), (b"X-First", b"1"), (b"x-last", b"1")]


@pytest.mark.parametrize("headers", [[ALICE], [(b"x-api-key", b"k")]])
def test_answers_to_other_credentials_are_unchanged(
    either_class: Class, headers: list[tuple[bytes, bytes]]
) -> None:
    answer = ask(either_class, http_scope(headers=headers), [lambda _: ("x-a", "1")])
    assert answer.headers == [(b"content-length", b"2")]


def test_the_applications_own_message_is_not_changed(ours: Class) -> None:
    headers = [(b"vary", b"Origin")]
    start = {"type": "http.response.start", "status": 200, "headers": headers}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start)
        await send({"type": "http.response.body"})

    answer = asyncio.run(request(ours(app), http_scope(headers=[COOKIE])))
    assert answer.header(b"vary") == [b"Origin, Cookie"]
    assert start["headers"] is headers
    assert headers == [(b"vary", b"Origin")]


def test_a_response_without_headers_may_vary(ours: Class) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    answer = asyncio.run(request(ours(app), http_scope(headers=[COOKIE])))
    assert answer.headers == [(b"vary", b"Cookie")]


def test_headers_that_can_be_read_once_are_all_sent(ours: Class) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = iter([(b"x-first", b"1"), (b"vary", b"Origin"), (b"x-last", b"1")])
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body"})

    answer = asyncio.run(request(ours(app), http_scope(headers=[COOKIE])))
    assert answer.headers == [(b"x-first", b"1"), (b"x-last", b"1"), (b"vary", b"Origin, Cookie")]


JAR = (
    b"cookie",
    b"a=1; session=s;x=2X ;\tsession=s; Session=u; sessions=v; session =w; =session; b=3",
)


@sdk_fails(NO_OPTION, raises=TypeError)
@pytest.mark.parametrize(
    ("names", "forwarded"),
    [
        ({"session"}, "session=s"),
        (["b", "a"], "a=1; b=3"),
        ("session", "session=s"),
        ({"x"}, "x=2X"),
    ],
)
def test_only_the_chosen_cookies_are_forwarded(
    middleware_class: Class, extractors: Extractors, names: Any, forwarded: str
) -> None:
    answer = ask(middleware_class, http_scope(headers=[JAR]), extractors, cookie_names=names)
    assert answer.credentials == {"cookie": forwarded}


@sdk_fails(NO_OPTION, raises=TypeError)
@pytest.mark.parametrize("jars", [[b"session=s; a=1; session=t"], [b"session=s", b"session"]])
def test_two_values_of_one_forwarded_cookie_are_refused(
    middleware_class: Class, jars: list[bytes]
) -> None:
    scope = http_scope(headers=[ALICE, *((b"cookie", jar) for jar in jars)])
    answer = ask(middleware_class, scope, cookie_names={"session"})
    assert answer.refused
    assert answer.status == 400
    assert answer.body == b'{"detail":"Conflicting cookies"}'
    assert ask(middleware_class, scope, cookie_names={"a"}).status == 200


@sdk_fails(NO_OPTION, raises=TypeError)
@pytest.mark.parametrize("names", [{"other"}, set(), (), "s"])
def test_other_cookies_do_not_count_as_credentials(middleware_class: Class, names: Any) -> None:
    assert ask(middleware_class, http_scope(headers=[JAR]), cookie_names=names).status == 401
    answer = ask(middleware_class, http_scope(headers=[JAR, ALICE]), cookie_names=names)
    assert answer.credentials == {"authorization": "Bearer alice"}


@sdk_fails(NO_OPTION, raises=TypeError)
def test_only_spaces_and_tabs_around_a_cookie_are_removed(middleware_class: Class) -> None:
    scope = http_scope(headers=[(b"cookie", b"a=1;\x0bsession=s")])
    assert ask(middleware_class, scope, cookie_names={"session"}).status == 401


@sdk_fails(NO_OPTION, raises=TypeError)
def test_a_cookie_that_is_not_forwarded_may_have_any_value(middleware_class: Class) -> None:
    scope = http_scope(headers=[(b"cookie", b"ad=\xff; session=s; \xe9=1")])
    answer = ask(middleware_class, scope, cookie_names={"session"})
    assert answer.credentials == {"cookie": "session=s"}

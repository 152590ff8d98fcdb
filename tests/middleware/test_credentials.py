"""The credentials of a request: what is forwarded, and what is refused, and how."""

import asyncio
import logging
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from .harness import (
    ALICE,
    COOKIE,
    DENIAL,
    EVIL,
    IS_ALICE,
    Class,
    Extractors,
    Header,
    Probe,
    ask,
    case,
    get,
    post,
    request,
    websocket,
)


def sent(value: str | bytes) -> Header:
    return (b"authorization", value.encode() if isinstance(value, str) else value)


def test_without_credentials_the_answer_is_401_with_a_bearer_challenge(cls: Class) -> None:
    answer = ask(cls, get())
    assert answer.status == 401
    assert answer.refused("Authentication credentials required")
    assert sorted(answer.headers) == [
        (b"content-length", b"%d" % len(answer.body)),
        (b"content-type", b"application/json"),
        (b"www-authenticate", b"Bearer"),
    ]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        case("a scheme", [sent("DPoP x")], {"authorization": "DPoP x"}),
        case("no scheme", [sent("token")], {"authorization": "token"}),
        case("a signature", [sent("AWS4 a=b, c=d")], {"authorization": "AWS4 a=b, c=d"}),
        case("space", [sent(" Bearer \t  x ")], {"authorization": " Bearer \t  x "}),
        case("cookies", [(b"cookie", b'a=b; c="d e"; f=')], {"cookie": 'a=b; c="d e"; f='}),
        case("in this order", [COOKIE, ALICE], IS_ALICE | {"cookie": "session=alice"}),
        case("64 KiB", [sent("x" * 65_536)], {"authorization": "x" * 65_536}),
        case("nothing else", [(b"x-api-key", b"k"), ALICE, (b"accept", b"a")], IS_ALICE),
        case("the same twice, and a blank one", [ALICE, sent(" \t"), ALICE], IS_ALICE),
        case("a blank first one", [sent(""), ALICE], IS_ALICE),
        case(
            "several Cookie headers",
            [(b"cookie", b"a=1"), (b"cookie", b" "), (b"cookie", b"b=2"), (b"cookie", b"a=3")],
            {"cookie": "a=1; b=2; a=3"},
        ),
        case("Cookie twice", [COOKIE] * 2, {"cookie": "session=alice; session=alice"}),
        case("UTF-8", [sent("Bearer é日🔑")], {"authorization": "Bearer é日🔑"}),
    ],
)
def test_credentials_are_forwarded_as_they_came(
    cls: Class, extractors: Extractors, headers: list[Header], expected: dict[str, str]
) -> None:
    answer = ask(cls, get(*headers), extractors)
    assert list(answer.credentials.items()) == list(expected.items())


def test_two_different_authorization_headers_are_refused(
    cls: Class, extractors: Extractors
) -> None:
    answer = ask(cls, get(ALICE, sent("Bearer bob")), extractors)
    assert answer.status == 400
    assert answer.refused("Conflicting Authorization headers")


@pytest.mark.parametrize("name", [b"authorization", b"cookie", b"x-api-key"])
@pytest.mark.parametrize("value", [b"", b"\t ", "\u00a0\u2003\u0085".encode()])
def test_a_blank_value_is_no_credential(cls: Class, name: bytes, value: bytes) -> None:
    extractors = [cls.extract_custom_header("x-api-key")] if name == b"x-api-key" else None
    assert ask(cls, get((name, value)), extractors).status == 401


UNSENDABLE = [b"\x00", b"\rx", b"\nx-evil: 1", b"\x01", b"\x7f", b"\xff", b"\xc3"]
UNSENDABLE += ["\ud800".encode("utf-8", "surrogatepass"), "\ufffd".encode()]


@pytest.mark.parametrize("value", UNSENDABLE)
@pytest.mark.parametrize("name", [b"authorization", b"cookie"])
def test_a_value_that_cannot_be_sent_is_refused_and_not_shown(
    cls: Class,
    extractors: Extractors,
    name: bytes,
    value: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    answer = ask(cls, get((name, b"Bearer s3cret" + value)), extractors)
    assert answer.status == 400
    assert answer.refused("Malformed credentials")
    assert "s3cret" not in caplog.text


def test_optional_credentials_are_checked_where_there_are_some(cls: Class) -> None:
    assert ask(cls, get(), required=False).credentials == {}
    assert ask(cls, websocket(), required=False).credentials == {}
    assert ask(cls, post(ALICE), required=False).credentials == IS_ALICE
    for headers, status in (([sent(b"\x00")], 400), ([COOKIE, EVIL], 403)):
        answer = ask(cls, post(*headers), required=False)
        assert (answer.status, answer.seen) == (status, [])


class Handler:
    """A refusal handler that records its arguments."""

    def __init__(self) -> None:
        self.given: list[tuple[HTTPConnection, HTTPException]] = []

    def __call__(self, connection: HTTPConnection, error: HTTPException) -> Response:
        self.given.append((connection, error))
        return PlainTextResponse(f"No: {error.detail}", error.status_code, error.headers)


REFUSED = {
    "Authentication credentials required": (401, []),
    "Conflicting Authorization headers": (400, [ALICE, (b"authorization", b"x")]),
    "Conflicting cookies": (400, [(b"cookie", b"session=a; session=b")]),
    "Malformed credentials": (400, [(b"authorization", b"\x00")]),
    "Credentials too large": (431, [(b"authorization", b"x" * 65_537)]),
    "Cross-site request refused": (403, [COOKIE, EVIL]),
}


@pytest.mark.parametrize("detail", REFUSED)
def test_an_owners_handler_answers_every_refusal(either: Class, detail: str) -> None:
    status, headers = REFUSED[detail]
    handler = Handler()
    options: dict[str, Any] = {"cookie_names": {"session"}, "refusal_handler": handler}
    answer = ask(either, post(*headers, path="/path"), **options)
    assert answer.seen == []
    assert (answer.status, answer.body) == (status, f"No: {detail}".encode())
    assert answer.header(b"www-authenticate") == ([b"Bearer"] if status == 401 else [])
    [(connection, error)] = handler.given
    assert isinstance(connection, Request)
    assert (connection.url.path, connection.method) == ("/path", "POST")
    assert (error.status_code, error.detail) == (status, detail)
    assert ask(either, get(ALICE), **options).status == 200
    assert len(handler.given) == 1


def test_an_owners_handler_denies_websockets_where_the_server_can(cls: Class) -> None:
    handler = Handler()
    answer = ask(cls, websocket(**DENIAL), refusal_handler=handler)
    assert answer.messages[0]["type"] == "websocket.http.response.start"
    reason = "Authentication credentials required"
    assert (answer.status, answer.body) == (401, f"No: {reason}".encode())
    assert handler.given.pop()[0].scope["type"] == "websocket"
    answer = ask(cls, websocket(), refusal_handler=handler)
    assert answer.messages == [{"type": "websocket.close", "code": 1008, "reason": reason}]
    assert (answer.seen, handler.given) == ([], [])


def test_an_owners_handler_that_raises_does_not_admit_the_request(cls: Class) -> None:
    probe = Probe()
    with pytest.raises(ZeroDivisionError):
        asyncio.run(request(cls(probe, refusal_handler=lambda *_: 1 / 0), get()))
    assert probe.seen == []


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
    either: Class, before: list[bytes], after: bytes
) -> None:
    probe = Probe((b"X-First", b"1"), *((b"Vary", value) for value in before), (b"x-last", b"1"))
    answer = asyncio.run(request(either(probe), get(COOKIE, ALICE)))
    assert answer.header(b"vary") == [after]
    others = [(name, value) for name, value in answer.headers if name.lower() != b"vary"]
    assert others == [(b"content-length", b"2"), (b"X-First", b"1"), (b"x-last", b"1")]


def test_answers_to_other_credentials_are_unchanged(either: Class) -> None:
    assert ask(either, get(ALICE)).headers == [(b"content-length", b"2")]


@pytest.mark.parametrize("kind", [list, iter, None])
def test_the_applications_own_message_is_not_changed(cls: Class, kind: Any) -> None:
    headers = kind([(b"vary", b"Origin"), (b"x-last", b"1")]) if kind else None
    start = {"type": "http.response.start", "status": 204} | ({"headers": headers} if kind else {})

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start)
        await send({"type": "http.response.body"})

    answer = asyncio.run(request(cls(app), get(COOKIE)))
    expected = [(b"x-last", b"1"), (b"vary", b"Origin, Cookie")] if kind else [(b"vary", b"Cookie")]
    assert answer.headers == expected
    assert start.get("headers") is headers


JAR = b"a=1; session=s;x=2X ;\tsession=s; Session=u; sessions=v; session =w; =session; b=3"
CHOSEN = [
    ({"session"}, JAR, "session=s"),
    (["b", "a"], JAR, "a=1; b=3"),
    ({"x"}, JAR, "x=2X"),
    ({"other"}, JAR, None),
    ((), JAR, None),
    ({"session"}, b"a=1;\x0bsession=s", None),  # only spaces and tabs are removed
    ({"session"}, b"ad=\xff; session=s; \xe9=1", "session=s"),  # others may have any value
]


@pytest.mark.parametrize(("names", "jar", "forwarded"), CHOSEN)
def test_only_the_chosen_cookies_are_forwarded(
    cls: Class, extractors: Extractors, names: Any, jar: bytes, forwarded: str | None
) -> None:
    expected = {"cookie": forwarded} if forwarded else {}
    scopes = get((b"cookie", jar)), get((b"cookie", jar), ALICE)
    alone, with_alice = (ask(cls, each, extractors, cookie_names=names) for each in scopes)
    assert alone.seen == [expected] * bool(forwarded)
    assert alone.status == (200 if forwarded else 401)
    assert with_alice.credentials == IS_ALICE | expected


@pytest.mark.parametrize("jars", [[b"session=s; a=1; session=t"], [b"session=s", b"session"]])
def test_two_values_of_one_forwarded_cookie_are_refused(cls: Class, jars: list[bytes]) -> None:
    scope = get(ALICE, *((b"cookie", jar) for jar in jars))
    answer = ask(cls, scope, cookie_names={"session"})
    assert answer.status == 400
    assert answer.refused("Conflicting cookies")
    assert ask(cls, scope, cookie_names={"a"}).status == 200

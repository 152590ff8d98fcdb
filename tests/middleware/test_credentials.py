"""Tests of forwarded credentials and of refusals."""

import logging
from types import MappingProxyType
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
    REFUSALS,
    Class,
    Header,
    Result,
    ask,
    case,
    get,
    post,
    request,
    websocket,
)


def authorization(value: str | bytes) -> Header:
    return (b"authorization", value.encode() if isinstance(value, str) else value)


def cookies(*jars: bytes) -> list[Header]:
    return [(b"cookie", jar) for jar in jars]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        case("space", [authorization(" Bearer \t  x ")], {"authorization": " Bearer \t  x "}),
        case("in this order", [COOKIE, ALICE], IS_ALICE | {"cookie": "session=alice"}),
        case("64 KiB", [authorization("x" * 65_536)], {"authorization": "x" * 65_536}),
        case("nothing else", [(b"x-api-key", b"k"), ALICE, (b"accept", b"a")], IS_ALICE),
        case("the same twice, and a blank one", [ALICE, authorization(" \t"), ALICE], IS_ALICE),
        case("Cookies", cookies(b"a=1", b" ", b"b=2", b"a=3"), {"cookie": "a=1; b=2; a=3"}),
        case("UTF-8", [authorization("Bearer é日🔑")], {"authorization": "Bearer é日🔑"}),
    ],
)
def test_credentials_are_forwarded_unchanged(
    cls: Class, headers: list[Header], expected: dict[str, str]
) -> None:
    credentials = ask(cls, get(*headers)).credentials
    assert credentials is not None
    assert list(credentials.items()) == list(expected.items())


JAR = b"a=1; session=s;x=2X ;\tsession=s; Session=u; sessions=v; session =w; =session; b=3"


@pytest.mark.parametrize(
    ("names", "jar", "forwarded"),
    [
        ({"session"}, JAR, "session=s"),
        (["b", "a"], JAR, "a=1; b=3"),
        ({"x"}, JAR, "x=2X"),
        ({"other"}, JAR, None),
        ((), JAR, None),
        ({"session"}, b"a=1;\x0bsession=s", None),  # only spaces and tabs are removed
        ({"session"}, b"ad=\xff; session=s; \xe9=1", "session=s"),  # others may have any value
        ({"a"}, b"session=s; a=1; session=t", "a=1"),  # also two values
    ],
)
def test_only_chosen_cookies_are_forwarded(
    cls: Class, names: Any, jar: bytes, forwarded: str | None
) -> None:
    chosen = {"cookie": forwarded} if forwarded else {}
    for headers, expected in (
        (cookies(jar), chosen or None),
        ([*cookies(jar), ALICE], IS_ALICE | chosen),
        ([ALICE], IS_ALICE),
    ):
        assert ask(cls, get(*headers), cookie_names=names).credentials == expected


REQUIRED, MALFORMED = "Authentication credentials required", "Malformed credentials"
BLANK = [b"", b"\t ", "\u00a0\u2003\u0085".encode()]
UNSENDABLE = [b"\x00", b"\rx", b"\nx-evil: 1", b"\x01", b"\x7f", b"\xff", b"\xc3"]
UNSENDABLE += ["\ud800".encode("utf-8", "surrogatepass"), "\ufffd".encode()]
REFUSED: list[tuple[str, list[Header]]] = [
    (REQUIRED, []),
    *((REQUIRED, [(name, value)]) for name in (b"authorization", b"cookie") for value in BLANK),
    *((MALFORMED, [authorization(b"Bearer s3cret" + value)]) for value in UNSENDABLE),
    *((MALFORMED, cookies(b"session=s3cret" + value)) for value in UNSENDABLE),
    ("Conflicting Authorization headers", [ALICE, authorization("Bearer s3cret")]),
    ("Conflicting cookies", cookies(b"session=s3cret; a=1; session=t")),
    ("Conflicting cookies", cookies(b"session=s3cret", b"session")),
    ("Credentials too large", [authorization("s3cret" + "x" * 65_531)]),
    ("Cross-site request refused", [COOKIE, EVIL]),
]
refusals = pytest.mark.parametrize(("detail", "headers"), REFUSED)


def refuse(cls: Class, detail: str, headers: list[Header], **options: Any) -> Result:
    """Send a request that is refused with this detail."""
    if detail == "Conflicting cookies":
        options |= {"cookie_names": {"session"}}
    return ask(cls, post(*headers, path="/path"), **options)


@refusals
def test_refused_credentials_are_not_disclosed(
    cls: Class, detail: str, headers: list[Header], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    result = refuse(cls, detail, headers)
    assert result.refused(detail)
    assert sorted(result.headers) == [
        (b"content-length", b"%d" % len(result.body)),
        (b"content-type", b"application/json"),
        *([(b"www-authenticate", b"Bearer")] if detail == REQUIRED else []),
    ]
    assert "s3cret" not in caplog.text


def test_optional_credentials_are_checked_if_present(cls: Class) -> None:
    assert ask(cls, get(), required=False).credentials == {}
    assert ask(cls, websocket(), required=False).credentials == {}
    assert ask(cls, post(ALICE), required=False).credentials == IS_ALICE
    assert ask(cls, get(authorization(b"\x00")), required=False).refused(MALFORMED)
    assert ask(cls, post(COOKIE, EVIL), required=False).refused("Cross-site request refused")


class Handler:
    """A refusal handler that records its arguments."""

    def __init__(self) -> None:
        self.calls: list[tuple[HTTPConnection, HTTPException]] = []

    def __call__(self, connection: HTTPConnection, error: HTTPException) -> Response:
        self.calls.append((connection, error))
        return PlainTextResponse(f"No: {error.detail}", error.status_code, error.headers)


@refusals
def test_refusal_handler_gets_every_refusal(
    either: Class, detail: str, headers: list[Header]
) -> None:
    handler, status = Handler(), REFUSALS[detail]
    result = refuse(either, detail, headers, refusal_handler=handler)
    assert (result.status, result.body) == (status, f"No: {detail}".encode())
    assert ((b"www-authenticate", b"Bearer") in result.headers) == (detail == REQUIRED)
    [(connection, error)] = handler.calls
    assert isinstance(connection, Request)
    assert (connection.url.path, connection.method) == ("/path", "POST")
    assert (error.status_code, error.detail) == (status, detail)


def test_refusal_handler_denies_websocket_if_server_can_respond(cls: Class) -> None:
    """Servers without the extension for denial responses close the WebSocket."""
    handler = Handler()
    result = ask(cls, websocket(**DENIAL), refusal_handler=handler)
    assert result.messages[0]["type"] == "websocket.http.response.start"
    assert (result.status, result.body) == (401, f"No: {REQUIRED}".encode())
    assert handler.calls.pop()[0].scope["type"] == "websocket"
    result = ask(cls, websocket(), refusal_handler=handler)
    assert result.messages == [{"type": "websocket.close", "code": 1008, "reason": REQUIRED}]
    assert handler.calls == []


FIRST, LAST = (b"X-First", b"1"), (b"x-last", b"1")


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, [(b"vary", b"Cookie")]),
        ({"headers": (FIRST, (b"Vary", b"*"), LAST)}, [FIRST, LAST, (b"vary", b"*, Cookie")]),
        (
            {"headers": ((b"Vary", b"Origin"), LAST, (b"vary", b"Accept, X"))},
            [LAST, (b"vary", b"Origin, Accept, X, Cookie")],
        ),
    ],
)
async def test_responses_vary_on_cookie(
    cls: Class, own: dict[str, Any], expected: list[Header]
) -> None:
    # The message of the application is immutable, so the middleware must copy it.
    start: Any = MappingProxyType({"type": "http.response.start", "status": 204, **own})

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start)
        await send({"type": "http.response.body"})

    assert (await request(cls(app), get(COOKIE, ALICE))).headers == expected

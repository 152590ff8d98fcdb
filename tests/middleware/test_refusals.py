"""Responses to refused requests, and custom handlers for them."""

import asyncio
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response

from .harness import (
    ALICE,
    COOKIE,
    DENIAL,
    EVIL,
    NO_OPTION,
    Class,
    Probe,
    ask,
    http_scope,
    request,
    sdk_fails,
    websocket_scope,
)

REFUSED: dict[str, tuple[list[tuple[bytes, bytes]], int, str]] = {
    "none": ([], 401, "Authentication credentials required"),
    "ambiguous": ([ALICE, (b"authorization", b"x")], 400, "Conflicting Authorization headers"),
    "two cookies": ([(b"cookie", b"session=a; session=b")], 400, "Conflicting cookies"),
    "malformed": ([(b"authorization", b"\x00")], 400, "Malformed credentials"),
    "large": ([(b"authorization", b"x" * 65_537)], 431, "Credentials too large"),
    "cross-site": ([COOKIE, EVIL], 403, "Cross-site request refused"),
}


class Handler:
    """A refusal handler that records its arguments."""

    def __init__(self) -> None:
        self.given: list[tuple[HTTPConnection, HTTPException]] = []

    def __call__(self, connection: HTTPConnection, error: HTTPException) -> Response:
        self.given.append((connection, error))
        return PlainTextResponse(f"No: {error.detail}", error.status_code, error.headers)


@sdk_fails(NO_OPTION, raises=TypeError)
@pytest.mark.parametrize(("headers", "status", "detail"), REFUSED.values(), ids=REFUSED.keys())
def test_an_owners_handler_answers_every_refusal(
    either_class: Class, headers: list[tuple[bytes, bytes]], status: int, detail: str
) -> None:
    handler = Handler()
    scope = http_scope("/path", headers, "POST")
    options: dict[str, Any] = {"cookie_names": {"session"}, "refusal_handler": handler}
    answer = ask(either_class, scope, **options)
    assert answer.refused
    assert (answer.status, answer.body) == (status, f"No: {detail}".encode())
    assert answer.header(b"www-authenticate") == ([b"Bearer"] if status == 401 else [])
    [(connection, error)] = handler.given
    assert isinstance(connection, Request)
    assert (connection.url.path, connection.method) == ("/path", "POST")
    assert (error.status_code, error.detail) == (status, detail)


@sdk_fails(NO_OPTION, raises=TypeError)
def test_an_owners_handler_denies_websockets_where_the_server_can(middleware_class: Class) -> None:
    handler = Handler()
    answer = ask(middleware_class, websocket_scope(**DENIAL), refusal_handler=handler)
    assert answer.start["type"] == "websocket.http.response.start"
    assert (answer.status, answer.body) == (401, b"No: Authentication credentials required")
    [(connection, _)] = handler.given
    assert connection.scope["type"] == "websocket"
    answer = ask(middleware_class, websocket_scope(), refusal_handler=handler)
    assert answer.start["type"] == "websocket.close"
    assert len(handler.given) == 1


def test_an_owners_handler_is_not_called_for_admitted_requests(ours: Class) -> None:
    handler = Handler()
    scope = http_scope(headers=[ALICE])
    assert ask(ours, scope, refusal_handler=handler).status == 200
    assert handler.given == []


def test_an_owners_handler_that_raises_does_not_admit_the_request(ours: Class) -> None:
    def broken(connection: HTTPConnection, error: HTTPException) -> Response:
        raise RuntimeError

    probe = Probe()
    with pytest.raises(RuntimeError):
        asyncio.run(request(ours(probe, refusal_handler=broken), http_scope()))
    assert probe.seen == []

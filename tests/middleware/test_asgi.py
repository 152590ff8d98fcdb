"""What the server, the application, subclasses and callers of dispatch see; and WebSockets."""

import asyncio
import contextvars
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from .harness import (
    ALICE,
    COOKIE,
    IS_ALICE,
    Class,
    Probe,
    ask,
    get,
    metadata,
    websocket,
)


@pytest.mark.parametrize("kind", ["lifespan", "something.else"])
def test_other_scopes_pass_untouched(cls: Class, kind: str) -> None:
    passed: list[tuple[Any, ...]] = []

    async def app(*arguments: Any) -> None:
        passed.append(arguments)

    given = ({"type": kind}, object(), object())
    asyncio.run(cls(app)(*given))
    assert [all(a is b for a, b in zip(passed[0], given, strict=True))] == [True]


def test_messages_and_context_variables_pass_unchanged(cls: Class) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    sent: list[Message] = [
        {"type": "http.response.start", "status": 200, "headers": [], "trailers": True},
        {"type": "http.response.body", "body": b"", "more_body": True},
        {"type": "http.response.body", "body": b"a", "more_body": False},
        {"type": "http.response.trailers", "headers": [(b"x-t", b"1")], "more_trailers": False},
    ]
    received = {"type": "http.request", "body": b"b", "more_body": False, "x": 1}
    arrived = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert await receive() is received
        variable.set("endpoint")
        for message in sent:
            await send(message)

    async def receive() -> Message:
        return received

    async def send(message: Message) -> None:
        assert variable.get() == "endpoint"
        arrived.append(message)

    async def run() -> None:
        await cls(app)(get(ALICE), receive, send)
        assert variable.get() == "endpoint"

    asyncio.run(run())
    assert [a is b for a, b in zip(arrived, sent, strict=True)] == [True] * 4


def test_dispatch_may_be_called_directly(cls: Class) -> None:
    app = cls(Probe(), None, {"/health"})
    seen = []

    async def call_next(request: Request) -> Response:
        seen.append((request.url.path, metadata()))
        return PlainTextResponse("next")

    async def run(*scopes: Scope) -> list[Response]:
        responses = [await app.dispatch(Request(scope), call_next) for scope in scopes]
        assert metadata() == {}
        return responses

    scopes = get(ALICE), get(ALICE, path="/health"), get()
    with_alice, health, nobody = asyncio.run(run(*scopes))
    assert (with_alice.body, health.body) == (b"next", b"next")
    assert seen == [("/", IS_ALICE), ("/health", {})]
    assert nobody.status_code == 401
    assert nobody.body == b'{"detail":"Authentication credentials required"}'
    assert nobody.headers["www-authenticate"] == "Bearer"


def test_a_subclass_may_override_dispatch(cls: Class) -> None:
    class Stamping(cls):  # type: ignore[misc]
        async def dispatch(self, request: Request, call_next: Any) -> Response:
            assert metadata() == {}
            if request.url.path == "/teapot":
                return PlainTextResponse("short and stout", 418)
            response: Response = await super().dispatch(request, call_next)
            response.headers["x-stamp"] = "1"
            return response

    answer = ask(Stamping, get(ALICE))
    assert answer.credentials == IS_ALICE
    assert answer.header(b"x-stamp") == [b"1"]
    assert ask(Stamping, get()).status == 401
    assert ask(Stamping, get(path="/teapot")).status == 418


def test_an_accepted_websocket_has_its_callers_credentials(cls: Class) -> None:
    def from_query(connection: Any) -> tuple[str, str] | None:
        return ("x-token", connection.query_params["t"])

    answer = ask(cls, websocket(ALICE, COOKIE))
    assert answer.status == 101
    assert answer.credentials == IS_ALICE | {"cookie": "session=alice"}
    assert ask(cls, websocket(query_string=b"t=5"), [from_query]).credentials == {"x-token": "5"}


def test_a_websocket_of_a_subclass_with_its_own_dispatch_is_checked(cls: Class) -> None:
    class Overriding(cls):  # type: ignore[misc]
        async def dispatch(self, *_: Any) -> Response:
            raise AssertionError("not for WebSockets")

    assert ask(Overriding, websocket()).seen == []
    assert ask(Overriding, websocket(ALICE)).credentials == IS_ALICE


def test_credentials_are_those_that_a_request_would_be_served_with(cls: Class) -> None:
    app = cls(Probe(), None, {"/health"})
    assert app.credentials(get(ALICE, COOKIE)) == IS_ALICE | {"cookie": "session=alice"}
    assert app.credentials(get(ALICE, path="/health")) == {}
    with pytest.raises(HTTPException) as refusal:
        app.credentials(get())
    assert refusal.value.status_code == 401
    assert metadata() == {}

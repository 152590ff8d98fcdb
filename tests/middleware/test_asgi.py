"""Behaviour that does not change for the server, the application, subclasses and dispatch."""

import asyncio
import contextvars
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from .harness import (
    ALICE,
    COOKIE,
    Answer,
    Class,
    Probe,
    ask,
    http_scope,
    metadata,
    request,
    sdk_fails,
)


@pytest.mark.parametrize("kind", ["lifespan", "something.else"])
def test_other_scopes_pass_untouched(middleware_class: Class, kind: str) -> None:
    passed: list[tuple[Any, ...]] = []

    async def app(*arguments: Any) -> None:
        passed.append(arguments)

    given = ({"type": kind}, object(), object())
    asyncio.run(middleware_class(app)(*given))
    assert [all(a is b for a, b in zip(passed[0], given, strict=True))] == [True]


@sdk_fails("BaseHTTPMiddleware runs the endpoint in another task", raises=LookupError)
def test_context_variables_of_the_endpoint_are_visible_outside(middleware_class: Class) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        variable.set("endpoint")
        await Probe()(scope, receive, send)

    async def run() -> None:
        async def send(message: Message) -> None:
            seen.append(variable.get())

        await middleware_class(app)(http_scope(headers=[ALICE]), _no_receive, send)
        seen.append(variable.get())

    asyncio.run(run())
    assert seen == ["endpoint"] * 3


async def _no_receive() -> Message:
    raise AssertionError("nothing to receive")


@sdk_fails("BaseHTTPMiddleware turns every message into its own", raises=AssertionError)
def test_messages_pass_unchanged(middleware_class: Class) -> None:
    sent: list[Message] = [
        {"type": "http.response.start", "status": 200, "headers": [], "trailers": True},
        {"type": "http.response.body", "body": b"", "more_body": True},
        {"type": "http.response.body", "body": b"a", "more_body": True},
        {"type": "http.response.body", "body": b"", "more_body": False},
        {"type": "http.response.trailers", "headers": [(b"x-t", b"1")], "more_trailers": False},
    ]
    inbox = [{"type": "http.request", "body": b"b", "more_body": False, "x": 1}]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert await receive() is first
        for message in sent:
            await send(message)

    first = inbox[0]
    arrived = []

    async def run() -> None:
        async def receive() -> Message:
            return inbox.pop()

        async def send(message: Message) -> None:
            arrived.append(message)

        await middleware_class(app)(http_scope(headers=[ALICE]), receive, send)

    asyncio.run(run())
    assert [a is b for a, b in zip(arrived, sent, strict=True)] == [True] * 5


def test_nothing_is_sent_ahead_of_a_slow_client(middleware_class: Class) -> None:
    produced, taken = [], []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(10):
            produced.append(number)
            await send({"type": "http.response.body", "body": b"x", "more_body": number < 9})

    async def run() -> None:
        async def send(message: Message) -> None:
            await asyncio.sleep(0)
            taken.append(message)
            assert len(produced) - len(taken) < 3

        await middleware_class(app)(http_scope(headers=[ALICE]), _no_receive, send)

    asyncio.run(run())
    assert b"".join(message.get("body", b"") for message in taken) == b"x" * 10


def test_dispatch_may_be_called_directly(middleware_class: Class) -> None:
    app = middleware_class(Probe(), None, {"/health"})
    seen = []

    async def call_next(request: Request) -> Response:
        seen.append((request.url.path, metadata()))
        return PlainTextResponse("next")

    async def run(*scopes: Scope) -> list[Response]:
        responses = [await app.dispatch(Request(scope), call_next) for scope in scopes]
        assert metadata() == {}
        return responses

    with_alice, health, nobody = asyncio.run(
        run(http_scope("/", [ALICE]), http_scope("/health", [ALICE]), http_scope("/"))
    )
    assert (with_alice.body, health.body) == (b"next", b"next")
    assert seen == [("/", {"authorization": "Bearer alice"}), ("/health", {})]
    assert nobody.status_code == 401
    assert nobody.body == b'{"detail":"Authentication credentials required"}'
    assert nobody.headers["www-authenticate"] == "Bearer"
    assert nobody.headers["content-type"] == "application/json"


def test_dispatch_returns_whatever_call_next_returns(middleware_class: Class) -> None:
    async def call_next(request: Request) -> Any:
        return "not a response"

    app = middleware_class(Probe())
    answer = asyncio.run(app.dispatch(Request(http_scope(headers=[COOKIE])), call_next))
    assert answer == "not a response"


def test_a_subclass_may_override_dispatch(middleware_class: Class) -> None:
    class Stamping(middleware_class):  # type: ignore[misc, valid-type]
        async def dispatch(self, request: Request, call_next: Any) -> Response:
            assert metadata() == {}
            if request.url.path == "/teapot":
                return PlainTextResponse("short and stout", 418)
            response: Response = await super().dispatch(request, call_next)
            response.headers["x-stamp"] = "1"
            return response

    scope = http_scope(headers=[ALICE])
    answer = ask(Stamping, scope)
    assert answer.credentials == {"authorization": "Bearer alice"}
    assert answer.header(b"x-stamp") == [b"1"]
    assert ask(Stamping, http_scope()).status == 401
    assert ask(Stamping, http_scope("/teapot")).status == 418


def test_the_other_options_are_by_keyword_only(ours: Class) -> None:
    with pytest.raises(TypeError, match="positional"):
        ours(Probe(), None, None, False)


def test_a_starlette_app_uses_it_like_any_middleware(middleware_class: Class) -> None:
    async def me(request: Request) -> JSONResponse:
        return JSONResponse(metadata())

    app = Starlette(routes=[Route("/me", me), Route("/health", me)])
    app.add_middleware(middleware_class, excluded_paths={"/health"})
    answer: Answer = asyncio.run(request(app, http_scope("/me", headers=[ALICE])))
    assert answer.body == b'{"authorization":"Bearer alice"}'
    assert asyncio.run(request(app, http_scope("/health", headers=[ALICE]))).body == b"{}"
    assert asyncio.run(request(app, http_scope("/me"))).status == 401

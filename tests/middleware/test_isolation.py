"""Tests of isolation: credentials exist only in the application, during the request."""

import asyncio
import contextvars
import functools
from typing import Any

import pytest
from flyte import remote
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from .harness import (
    ALICE,
    COOKIE,
    IS_ALICE,
    Class,
    ask,
    echo_credentials,
    get,
    metadata,
    request,
    websocket,
)


async def test_excluded_path_keeps_auth_metadata_of_outer_context(cls: Class) -> None:
    app, ambient = cls(echo_credentials, None, {"/health"}), {"x-ambient": "1"}
    with remote.auth_metadata(*ambient.items()):
        assert (await request(app, get(path="/health"))).credentials == ambient
        assert (await request(app, get(ALICE))).credentials == IS_ALICE
        assert metadata() == ambient
    assert metadata() == {}


async def test_interleaved_requests_keep_their_credentials(cls: Class) -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        mine = dict(scope["headers"])[b"authorization"].decode()
        for _ in range(3):
            await asyncio.sleep(0)
            assert metadata() == {"authorization": mine}
        await echo_credentials(scope, receive, send)

    app = cls(slow)
    tokens = [f"Bearer {number}" for number in range(2000)]
    scopes = [get((b"authorization", token.encode())) for token in tokens]
    results = await asyncio.gather(*(request(app, scope) for scope in scopes))
    assert [result.credentials for result in results] == [{"authorization": t} for t in tokens]


async def test_asgi_callables_receive_and_send_have_no_credentials(either: Class) -> None:
    in_app, in_server, ambient = [], [], {"x-ambient": "1"}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        in_app.append(metadata())
        assert (await receive())["body"] == b"body"
        in_app.append(metadata())
        with remote.auth_metadata(("x-nested", "1")):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            assert metadata() == {"x-nested": "1"}
        await send({"type": "http.response.body", "body": b""})
        in_app.append(metadata())

    async def receive() -> Message:
        in_server.append(metadata())
        await asyncio.sleep(0)
        in_server.append(metadata())
        return {"type": "http.request", "body": b"body", "more_body": False}

    async def send(message: Message) -> None:
        await receive()

    with remote.auth_metadata(*ambient.items()):
        await either(app)(get(ALICE), receive, send)
    assert in_app == [IS_ALICE] * 3
    assert len(in_server) >= 6
    assert all(credentials == ambient for credentials in in_server)


async def test_credentials_are_restored_after_receive_raises(cls: Class) -> None:
    """The same holds after ``send`` raises."""
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for call in (receive, functools.partial(send, {"type": "http.response.start"})):
            with pytest.raises(asyncio.CancelledError):
                await call()
            seen.append(metadata())

    async def broken(*_: Any) -> Any:
        raise asyncio.CancelledError

    await cls(app)(get(ALICE), broken, broken)
    assert seen == [IS_ALICE] * 2


async def test_middleware_keeps_messages_and_context_variables_unchanged(cls: Class) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    messages: list[Message] = [
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
        for message in messages:
            await send(message)

    async def receive() -> Message:
        return received

    async def send(message: Message) -> None:
        assert variable.get() == "endpoint"
        arrived.append(message)

    await cls(app)(get(ALICE), receive, send)
    assert variable.get() == "endpoint"
    assert [*map(id, arrived)] == [*map(id, messages)]


def test_middleware_subclass_can_override_dispatch(cls: Class) -> None:
    class Stamping(cls):  # type: ignore[misc]
        async def dispatch(self, request: Request, call_next: Any) -> Response:
            assert metadata() == {}
            if request.url.path == "/teapot":
                return PlainTextResponse("short and stout", 418)
            response: Response = await super().dispatch(request, call_next)
            response.headers["x-stamp"] = "1"
            return response

    result = ask(Stamping, get(ALICE))
    assert result.credentials == IS_ALICE
    stamp = (b"x-stamp", b"1")
    assert result.headers[1:] == [stamp]
    assert ask(Stamping, get(COOKIE)).headers[1:] == [stamp, (b"vary", b"Cookie")]
    assert ask(Stamping, get()).status == 401
    assert ask(Stamping, get(path="/teapot")).status == 418


def test_websocket_has_credentials_of_caller(either: Class) -> None:
    """An overridden ``dispatch`` is for HTTP only."""
    assert ask(either, websocket()).status == 1008
    both = IS_ALICE | {"cookie": "session=alice"}
    assert ask(either, websocket(ALICE, COOKIE)).credentials == both

    def from_query(connection: Any) -> tuple[str, str]:
        return ("x-token", connection.query_params["t"])

    assert ask(either, websocket(query_string=b"t=5"), [from_query]).credentials == {"x-token": "5"}


def test_credentials_method_returns_forwarded_credentials(cls: Class) -> None:
    app = cls(echo_credentials, None, {"/health"})
    assert app.credentials(get(ALICE, COOKIE)) == IS_ALICE | {"cookie": "session=alice"}
    assert app.credentials(get(ALICE, path="/health")) == {}
    with pytest.raises(HTTPException) as refusal:
        app.credentials(get())
    assert refusal.value.status_code == 401
    assert metadata() == {}

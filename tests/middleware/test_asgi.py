"""What the server, the application and subclasses see; and WebSockets."""

import contextvars
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from .harness import ALICE, COOKIE, IS_ALICE, Class, ask, get, metadata, tell, websocket


async def test_messages_and_context_variables_pass_unchanged(cls: Class) -> None:
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

    await cls(app)(get(ALICE), receive, send)
    assert variable.get() == "endpoint"
    assert [*map(id, arrived)] == [*map(id, sent)]


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
    stamp = (b"x-stamp", b"1")
    assert answer.headers[1:] == [stamp]
    assert ask(Stamping, get(COOKIE)).headers[1:] == [stamp, (b"vary", b"Cookie")]
    assert ask(Stamping, get()).status == 401
    assert ask(Stamping, get(path="/teapot")).status == 418


def test_an_accepted_websocket_has_its_callers_credentials(either: Class) -> None:
    """An overridden ``dispatch`` is for HTTP only."""
    assert ask(either, websocket()).status == 1008
    both = IS_ALICE | {"cookie": "session=alice"}
    assert ask(either, websocket(ALICE, COOKIE)).credentials == both

    def from_query(connection: Any) -> tuple[str, str]:
        return ("x-token", connection.query_params["t"])

    assert ask(either, websocket(query_string=b"t=5"), [from_query]).credentials == {"x-token": "5"}


def test_credentials_are_those_that_a_request_would_be_served_with(cls: Class) -> None:
    app = cls(tell, None, {"/health"})
    assert app.credentials(get(ALICE, COOKIE)) == IS_ALICE | {"cookie": "session=alice"}
    assert app.credentials(get(ALICE, path="/health")) == {}
    with pytest.raises(HTTPException) as refusal:
        app.credentials(get())
    assert refusal.value.status_code == 401
    assert metadata() == {}

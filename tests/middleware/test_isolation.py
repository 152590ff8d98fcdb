"""Only the caller's own credentials, and only during the request."""

import asyncio
import functools
from typing import Any

import pytest
from flyte import remote
from starlette.types import Message, Receive, Scope, Send

from .harness import ALICE, IS_ALICE, Class, get, metadata, request, tell


async def test_ambient_metadata_survives_on_excluded_paths_only(cls: Class) -> None:
    app, ambient = cls(tell, None, {"/health"}), {"x-ambient": "1"}
    with remote.auth_metadata(*ambient.items()):
        assert (await request(app, get(path="/health"))).credentials == ambient
        assert (await request(app, get(ALICE))).credentials == IS_ALICE
        assert metadata() == ambient
    assert metadata() == {}


async def test_thousands_of_interleaved_callers_never_mix(cls: Class) -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        mine = dict(scope["headers"])[b"authorization"].decode()
        for _ in range(3):
            await asyncio.sleep(0)
            assert metadata() == {"authorization": mine}
        await tell(scope, receive, send)

    app = cls(slow)
    tokens = [f"Bearer {number}" for number in range(2000)]
    scopes = [get((b"authorization", token.encode())) for token in tokens]
    answers = await asyncio.gather(*(request(app, scope) for scope in scopes))
    assert [answer.credentials for answer in answers] == [{"authorization": t} for t in tokens]


async def test_the_server_callables_never_run_with_the_callers_credentials(either: Class) -> None:
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
    assert all(found == ambient for found in in_server)


async def test_the_credentials_are_back_after_a_server_callable_raised(cls: Class) -> None:
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

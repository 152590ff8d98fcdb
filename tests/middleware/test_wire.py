"""Calls to Flyte over the wire: the real SDK calls a TLS endpoint that records the bytes."""

import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, closing
from http.client import HTTPConnection
from multiprocessing import get_context

import flyte
import pytest
import trustme
import uvicorn
from flyte import remote
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from .harness import DEADLINE, Header, import_copy, reply, serve

Call = Callable[[Mapping[str, bytes]], list[Header]]


def serve_app(listener: socket.socket, endpoint: str, authority: str) -> None:
    """Serve an app that asks Flyte who calls it, until killed."""
    ours = import_copy("passthrough_auth").FastAPIPassthroughAuthMiddleware
    os.environ.clear()  # a proxy or a configuration of this machine does not count

    async def me(request: Request) -> PlainTextResponse:
        return PlainTextResponse((await remote.User.get.aio()).subject())

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        connection = {"endpoint": endpoint, "ca_cert_file_path": authority}
        await flyte.init.aio(auth_type="Passthrough", **connection)
        yield

    app = Starlette(routes=[Route("/", me)], middleware=[Middleware(ours)], lifespan=lifespan)
    config = uvicorn.Config(app, http="httptools", log_level="warning")
    uvicorn.Server(config).run(sockets=[listener])


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Call]:
    """Sends a request with some headers to the app; returns those of the app's call to Flyte."""
    calls: list[list[Header]] = []

    async def user_info(scope: Scope, receive: Receive, send: Send) -> None:
        calls.append([*scope["headers"]])
        while (await receive())["more_body"]:
            pass
        content_type = dict(scope["headers"])[b"content-type"]
        await reply(send, b"", (b"content-type", content_type))  # a UserInfo without fields

    folder, authority = tmp_path_factory.mktemp("wire"), trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate = folder / "certificate.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    with serve(user_info, loop="asyncio", http="httptools", ssl_certfile=certificate) as flyte_port:
        endpoint = f"dns:///127.0.0.1:{flyte_port}"
        # The SDK is initialised once per process, so the app has one of its own.
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            arguments = listener, endpoint, str(folder / "ca.pem")
            process = get_context("spawn").Process(target=serve_app, args=arguments)
            process.start()

        def call(headers: Mapping[str, bytes]) -> list[Header]:
            with closing(HTTPConnection("127.0.0.1", port, timeout=DEADLINE)) as connection:
                connection.request("GET", "/", headers=headers)
                assert connection.getresponse().status == 200
            return calls.pop()

        yield call
        process.kill()
        process.join()


@pytest.mark.parametrize(
    "sent",
    [
        {"Authorization": b"DPoP  a\tb"},
        {"Authorization": b"Bearer " + bytes(range(0x21, 0x7F))},
        {"Authorization": b"Bearer " + b"x" * 60_000},
        {"Authorization": "Bearer é日🔑".encode()},
        {"Authorization": b"Bearer x", "Cookie": b'a=b; c="d e"; f='},
    ],
)
def test_flyte_receives_the_bytes_that_came_and_nothing_else(
    call: Call, sent: dict[str, bytes]
) -> None:
    received = call(sent | {"X-Other": b"1", "User-Agent": b"me/1"})
    for name in ("Authorization", "Cookie", "X-Other"):
        expected = [sent[name]] if name in sent else []
        assert [value for key, value in received if key == name.lower().encode()] == expected
    assert b"me/1" not in b"".join(value for _, value in received)

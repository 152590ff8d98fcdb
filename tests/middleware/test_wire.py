"""Tests of calls over the wire: the SDK calls a TLS endpoint that records the headers."""

import asyncio
import os
import signal
from multiprocessing import get_context
from pathlib import Path

import flyte
import trustme
from flyte import remote
from starlette.types import Receive, Scope, Send

from .harness import DEADLINE, Header, get, import_copy, reply, request, serve

AUTHORIZATION, COOKIE = b"authorization", b"cookie"
SENT: list[list[Header]] = [
    [(AUTHORIZATION, b"DPoP  a\tb")],
    [(AUTHORIZATION, b"Bearer " + bytes(range(0x21, 0x7F)))],
    [(AUTHORIZATION, b"Bearer " + b"x" * 60_000)],
    [(AUTHORIZATION, "Bearer é日🔑".encode())],
    [(AUTHORIZATION, b"Bearer x"), (COOKIE, b'a=b; c="d e"; f=')],
]
OTHERS = [(b"x-other", b"1"), (b"user-agent", b"me/1")]


def call_flyte(endpoint: str, authority: str) -> None:
    """Serve one request for each item of SENT, with an endpoint that calls Flyte."""
    ours = import_copy("passthrough_auth").FastAPIPassthroughAuthMiddleware
    os.environ.clear()  # ignore proxies and configuration of this machine

    async def me(scope: Scope, receive: Receive, send: Send) -> None:
        await remote.User.get.aio()
        await reply(send, b"")

    async def serve_all() -> None:
        connection = {"endpoint": endpoint, "ca_cert_file_path": authority}
        await flyte.init.aio(auth_type="Passthrough", **connection)
        for headers in SENT:
            assert (await request(ours(me), get(*headers, *OTHERS))).status == 200

    asyncio.run(serve_all())


def test_flyte_receives_credentials_byte_for_byte(tmp_path: Path) -> None:
    """Flyte receives no other header of the request."""
    calls: list[list[Header]] = []

    async def user_info(scope: Scope, receive: Receive, send: Send) -> None:
        calls.append([*scope["headers"]])
        while (await receive())["more_body"]:
            pass
        content_type = dict(scope["headers"])[b"content-type"]
        await reply(send, b"", (b"content-type", content_type))  # a UserInfo without fields

    authority, certificate = trustme.CA(), tmp_path / "certificate.pem"
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    with serve(user_info, loop="asyncio", http="httptools", ssl_certfile=certificate) as port:
        # The SDK is initialised once per process, so the app runs in a separate process.
        arguments = f"dns:///127.0.0.1:{port}", str(tmp_path / "ca.pem")
        process = get_context("spawn").Process(target=call_flyte, args=arguments)
        process.start()
        process.join(DEADLINE)
        process.kill()
    # The SDK's HTTP client sometimes aborts the process while Python exits.
    assert process.exitcode in {0, -signal.SIGABRT}
    for expected, received in zip(SENT, calls, strict=True):
        forwarded = [pair for pair in received if pair[0] in {AUTHORIZATION, COOKIE, b"x-other"}]
        assert forwarded == expected
        assert b"me/1" not in b"".join(value for _, value in received)

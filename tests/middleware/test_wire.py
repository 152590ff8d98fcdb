"""Calls to Flyte over the wire: the real SDK calls a TLS endpoint that records the bytes.

The app runs in a separate process (``wire_app.py``), since the SDK is initialised per process.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from starlette.types import Receive, Scope, Send

from .harness import Connection, Header, case, middleware_file, reply, serve


class Flyte:
    """A stand-in for Flyte's UserInfo that answers anyone and records the headers of each call."""

    def __init__(self) -> None:
        self.calls: list[list[Header]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls.append([*scope["headers"]])
        while (await receive())["more_body"]:
            pass
        content_type = dict(scope["headers"])[b"content-type"]
        await reply(send, b"", (b"content-type", content_type))  # a UserInfo without fields

    def received(self, name: bytes) -> list[bytes]:
        """Return that header's values in the last call, byte for byte."""
        return [value for key, value in self.calls[-1] if key == name]


@pytest.fixture(scope="module")
def flyte() -> Flyte:
    return Flyte()


@pytest.fixture(scope="module")
def port(flyte: Flyte, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    home, authority = tmp_path_factory.mktemp("home"), trustme.CA()
    authority.cert_pem.write_to_path(home / "ca.pem")
    certificate = home / "certificate.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    script = Path(__file__).with_name("wire_app.py")
    with serve(flyte, loop="asyncio", http="httptools", ssl_certfile=certificate) as port:
        endpoint = f"dns:///127.0.0.1:{port}"
        with subprocess.Popen(
            [sys.executable, script, middleware_file(), endpoint, home / "ca.pem"],
            stdout=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "HOME": str(home)},
        ) as process:
            assert process.stdout is not None
            yield int(process.stdout.readline())
            process.kill()


def call(port: int, *lines: bytes) -> int:
    """Call the app with exactly these header lines; return the status."""
    with Connection(port) as connection:
        return connection.ask("GET", "/me", *(each.decode("latin-1") for each in lines)).status


@pytest.mark.parametrize(
    "value",
    [
        case("spaces and tabs inside", b"DPoP  a\tb"),
        case("every visible character", b"Bearer " + bytes(range(0x21, 0x7F))),
        case("long", b"Bearer " + b"x" * 60_000),
        case("UTF-8", "Bearer é日🔑".encode()),
    ],
)
def test_the_bytes_that_reach_flyte_are_those_that_came(
    flyte: Flyte, port: int, value: bytes
) -> None:
    assert call(port, b"Authorization: " + value) == 200
    assert flyte.received(b"authorization") == [value]
    assert flyte.received(b"cookie") == []


def test_nothing_else_of_the_request_reaches_flyte(flyte: Flyte, port: int) -> None:
    cookie, bearer = b'Cookie: a=b; c="d e"; f=', b"Authorization: Bearer x"
    assert call(port, cookie, bearer, b"X-Other: 1", b"User-Agent: me/1") == 200
    assert flyte.received(b"cookie") == [b'a=b; c="d e"; f=']
    assert flyte.received(b"authorization") == [b"Bearer x"]
    sent = b"\n".join(b": ".join(field) for field in flyte.calls[-1])
    assert b"x-other" not in sent
    assert b"me/1" not in sent

"""Calls to Flyte over the wire: the real SDK calls a TLS endpoint that records the bytes.

The app runs in a separate process (``wire_app.py``), since the SDK is initialised per process.
"""

import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import trustme

from .harness import Class, Connection, SdkMiddleware, case, middleware_file, sdk_fails


class Flyte(ThreadingHTTPServer):
    """A stand-in for Flyte's UserInfo that answers anyone and records the headers of each call."""

    daemon_threads = True

    def __init__(self, directory: Path) -> None:
        super().__init__(("127.0.0.1", 0), Call)
        self.calls: list[list[tuple[bytes, bytes]]] = []
        authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(tls)
        self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.ca_file = directory / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))

    def received(self, name: bytes) -> list[bytes]:
        """Return that header's values in the last call, byte for byte."""
        return [value for key, value in self.calls[-1] if key == name]


class Call(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Flyte

    def do_POST(self) -> None:
        """Answer with an empty message, in the encoding of the call: a UserInfo without fields."""
        fields = [
            (key.lower().encode(), value.encode("latin-1")) for key, value in self.headers.items()
        ]
        self.server.calls.append(fields)
        self.rfile.read(int(self.headers.get("content-length", "0")))
        self.send_response(200)
        self.send_header("content-type", self.headers["content-type"])
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def flyte(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flyte]:
    with Flyte(tmp_path_factory.mktemp("wire")) as flyte:
        Thread(target=flyte.serve_forever, daemon=True).start()
        yield flyte
        flyte.shutdown()


@pytest.fixture(scope="module")
def port(flyte: Flyte, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    home = tmp_path_factory.mktemp("home")
    command: list[str | Path] = [
        sys.executable,
        Path(__file__).with_name("wire_app.py"),
        middleware_file(),
    ]
    command += [f"dns:///127.0.0.1:{flyte.server_port}", flyte.ca_file]
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=home) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.kill()


class App:
    """Makes the app call Flyte, as the class under test lets it."""

    def __init__(self, port: int, cls: Class) -> None:
        self.port, self.path = port, "/sdk/me" if cls is SdkMiddleware else "/ours/me"

    def call(self, *lines: bytes) -> int:
        """Send exactly these header lines; return the status."""
        with Connection(self.port) as connection:
            return connection.ask(
                "GET", self.path, *(each.decode("latin-1") for each in lines)
            ).status


@pytest.fixture(scope="module")
def app(port: int, cls: Class) -> App:
    return App(port, cls)


AS_THEY_CAME = {
    "bearer": b"Bearer a.b-c_d~e+f/g==",
    "basic": b"Basic dTpw",
    "other scheme": b"DPoP x",
    "spaces inside": b"Bearer  a  b",
    "tab inside": b"Bearer a\tb",
    "every visible character": b"Bearer " + bytes(range(0x21, 0x7F)),
    "long": b"Bearer " + b"x" * 60_000,
}
UTF_8 = case("UTF-8", "Bearer é日🔑".encode(), sdk="UTF-8 is encoded twice")


@pytest.mark.parametrize("value", [*(case(*each) for each in AS_THEY_CAME.items()), UTF_8])
def test_the_bytes_that_reach_flyte_are_those_that_came(
    flyte: Flyte, app: App, value: bytes
) -> None:
    assert app.call(b"Authorization: " + value) == 200
    assert flyte.received(b"authorization") == [value]
    assert flyte.received(b"cookie") == []


def test_cookies_reach_flyte_as_they_came(flyte: Flyte, app: App) -> None:
    assert app.call(b'Cookie: a=b; c="d e"; f=', b"Authorization: Bearer x") == 200
    assert flyte.received(b"cookie") == [b'a=b; c="d e"; f=']
    assert flyte.received(b"authorization") == [b"Bearer x"]


@sdk_fails("only the first of several Cookie headers is read")
def test_several_cookie_headers_reach_flyte_as_one(flyte: Flyte, app: App) -> None:
    assert app.call(b"Cookie: a=1", b"Cookie: b=2") == 200
    assert flyte.received(b"cookie") == [b"a=1; b=2"]


def test_nothing_else_of_the_request_reaches_flyte(flyte: Flyte, app: App) -> None:
    assert app.call(b"Authorization: Bearer x", b"X-Other: 1", b"User-Agent: me/1") == 200
    sent = b"\n".join(b": ".join(field) for field in flyte.calls[-1])
    assert b"x-other" not in sent
    assert b"me/1" not in sent

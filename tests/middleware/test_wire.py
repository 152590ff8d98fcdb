"""Calls to Flyte over the wire: the real SDK calls a TLS endpoint that records the bytes.

The app runs in a separate process (``wire_app.py``), since the SDK is initialised per process.
"""

import asyncio
import contextlib
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trustme

from .harness import DEADLINE, Class, Connection, message, middleware_file


class Endpoint:
    """A stand-in for Flyte's UserInfo that answers anyone and records requests."""

    def __init__(self, directory: Path) -> None:
        authority = trustme.CA()
        self.ca_file = directory / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(self._tls)
        self.calls: list[list[bytes]] = []
        self.port = 0

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head[:-4].split(b"\r\n")
                fields = dict(_field(line) for line in lines[1:])
                await reader.readexactly(int(fields.get(b"content-length", b"0")))
                self.calls.append(lines)
                # An empty message, in the encoding of the call: a UserInfo without fields.
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: 0\r\n\r\n"
                    % fields[b"content-type"]
                )
                await writer.drain()
        writer.close()

    @contextlib.contextmanager
    def running(self) -> Iterator["Endpoint"]:
        """Serve from a thread until the block ends."""
        started, loop = threading.Event(), asyncio.new_event_loop()
        stop = asyncio.Event()

        async def run() -> None:
            server = await asyncio.start_server(
                self._serve_one, "127.0.0.1", 0, ssl=self._tls, limit=2**20
            )
            self.port = server.sockets[0].getsockname()[1]
            started.set()
            await stop.wait()
            server.close()

        thread = threading.Thread(target=lambda: loop.run_until_complete(run()), daemon=True)
        thread.start()
        assert started.wait(DEADLINE)
        yield self
        loop.call_soon_threadsafe(stop.set)
        thread.join(DEADLINE)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    def received(self, name: bytes) -> list[bytes]:
        """Return that header's values in the last call, byte for byte."""
        fields = [_field(line) for line in self.calls[-1][1:]]
        return [value for key, value in fields if key == name]


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b": ")
    return name.lower(), value


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    with Endpoint(tmp_path_factory.mktemp("wire")).running() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def port(
    endpoint: Endpoint, middleware_class: Class, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    which = "sdk" if middleware_class.__module__.startswith("flyte.") else str(middleware_file())
    home = tmp_path_factory.mktemp("home")
    command = [sys.executable, str(Path(__file__).with_name("wire_app.py")), which]
    command += [f"dns:///127.0.0.1:{endpoint.port}", str(endpoint.ca_file)]
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=home)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait(DEADLINE)
        process.stdout.close()


def call(port: int, *lines: bytes) -> int:
    """Make the app call Flyte, with exactly these header lines; return the status."""
    with Connection(port) as connection:
        connection.send(message("GET", "/me", *(line.decode("latin-1") for line in lines)))
        return connection.read_response().status


AS_THEY_CAME = {
    "bearer": b"Bearer a.b-c_d~e+f/g==",
    "basic": b"Basic dTpw",
    "other scheme": b"DPoP x",
    "spaces inside": b"Bearer  a  b",
    "tab inside": b"Bearer a\tb",
    "every visible character": b"Bearer " + bytes(range(0x21, 0x7F)),
    "long": b"Bearer " + b"x" * 60_000,
    "UTF-8": "Bearer é日🔑".encode(),
}


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(value, id=name, marks=[pytest.mark.sdk_fails("UTF-8 is encoded twice")])
        if name == "UTF-8"
        else pytest.param(value, id=name)
        for name, value in AS_THEY_CAME.items()
    ],
)
def test_the_bytes_that_reach_flyte_are_those_that_came(
    endpoint: Endpoint, port: int, value: bytes
) -> None:
    assert call(port, b"Authorization: " + value) == 200
    assert endpoint.received(b"authorization") == [value]
    assert endpoint.received(b"cookie") == []


def test_cookies_reach_flyte_as_they_came(endpoint: Endpoint, port: int) -> None:
    assert call(port, b'Cookie: a=b; c="d e"; f=', b"Authorization: Bearer x") == 200
    assert endpoint.received(b"cookie") == [b'a=b; c="d e"; f=']
    assert endpoint.received(b"authorization") == [b"Bearer x"]


@pytest.mark.sdk_fails("only the first of several Cookie headers is read")
def test_several_cookie_headers_reach_flyte_as_one(endpoint: Endpoint, port: int) -> None:
    assert call(port, b"Cookie: a=1", b"Cookie: b=2") == 200
    assert endpoint.received(b"cookie") == [b"a=1; b=2"]


def test_nothing_else_of_the_request_reaches_flyte(endpoint: Endpoint, port: int) -> None:
    assert call(port, b"Authorization: Bearer x", b"X-Other: 1", b"User-Agent: me/1") == 200
    sent = b"\n".join(endpoint.calls[-1])
    assert b"x-other" not in sent.lower()
    assert b"me/1" not in sent


def test_without_credentials_nothing_reaches_flyte(endpoint: Endpoint, port: int) -> None:
    before = len(endpoint.calls)
    assert call(port) == 401
    assert len(endpoint.calls) == before


def test_many_at_once_each_reach_flyte_once(endpoint: Endpoint, port: int) -> None:
    before = len(endpoint.calls)
    sent = [b"Bearer caller-%d" % number for number in range(100)]
    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(lambda value: call(port, b"Authorization: " + value), sent)) == {200}
    lines = [line for head in endpoint.calls[before:] for line in head]
    received = [_field(line)[1] for line in lines if _field(line)[0] == b"authorization"]
    assert sorted(received) == sorted(sent)

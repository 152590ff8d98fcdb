"""Shared helpers: the file under test, an ASGI client, and a server on a real socket."""

import asyncio
import contextlib
import importlib.util
import json
import os
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import pytest
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # pydantic's, about flyte's own models
    from flyte.app import extras

    # The SDK's function to read the metadata set by `auth_metadata`. It has no public name; the
    # cases over the wire (test_wire.py) don't use it.
    from flyte.remote._auth_metadata import get_auth_metadata

SdkMiddleware = extras.FastAPIPassthroughAuthMiddleware
TEMPLATE = Path(__file__).resolve().parents[2]
SERVERS = [("asyncio", "h11"), ("asyncio", "httptools"), ("uvloop", "h11"), ("uvloop", "httptools")]
"""Each combination of event loop and parser in uvicorn."""
DEADLINE = 60.0
"""Seconds any single wait may take before the case fails."""

Class = Callable[..., Any]
"""The middleware's class, ours or the SDK's, or a subclass of it."""
Extractors = list[Callable[[Any], Any]] | None
Headers = Iterable[tuple[bytes, bytes]]

ALICE = (b"authorization", b"Bearer alice")
COOKIE = (b"cookie", b"session=alice")
EVIL = (b"origin", b"https://evil.example")
DENIAL: dict[str, Any] = {"extensions": {"websocket.http.response": {}}}
"""The scope of a server that can deny a WebSocket with a response."""

sdk_fails = pytest.mark.sdk_fails
"""Marks a case or a parameter that the SDK's class is expected to fail, with the finding."""
NO_OPTION = "the SDK's class has no such option"
WEBSOCKET = "the SDK's class lets every WebSocket through, unauthenticated"


def middleware_file() -> Path:
    """Return the path of the file under test, or PASSTHROUGH_AUTH_FILE if that is set."""
    if other := os.environ.get("PASSTHROUGH_AUTH_FILE"):
        return Path(other).resolve()
    package = TEMPLATE / "{{cookiecutter.project_slug}}" / "passthrough"
    return package / "passthrough_auth.py"


def load_middleware() -> ModuleType:
    """Import the file under test again, by path, as the module ``passthrough_auth``."""
    return import_copy("passthrough_auth")


def import_copy(name: str) -> ModuleType:
    """Import the file under test again, by path, as the module with that name."""
    spec = importlib.util.spec_from_file_location(name, middleware_file())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def metadata() -> dict[str, str]:
    """Return the credentials that a call to Flyte would have here."""
    return dict(get_auth_metadata())


def raw_metadata() -> tuple[tuple[str, str], ...]:
    """Return the same as the pairs passed to ``auth_metadata``."""
    return get_auth_metadata()


def http_scope(
    path: str = "/", headers: Headers = (), method: str = "GET", **more: Any
) -> dict[str, Any]:
    """Return an ASGI 3 HTTP scope as a server would make it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("utf-8", "surrogateescape"),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"app.example.com"), *headers],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
        **more,
    }


def websocket_scope(path: str = "/", headers: Headers = (), **more: Any) -> dict[str, Any]:
    """Return an ASGI 3 WebSocket scope, by default without the denial response extension."""
    scope = http_scope(path, headers, scheme="ws", subprotocols=[], **more)
    del scope["method"]
    return {**scope, "type": "websocket"}


@dataclass
class Answer:
    """The messages that an application sent, and the credentials it saw."""

    messages: list[Message] = field(default_factory=list)
    seen: list[dict[str, str]] = field(default_factory=list)

    @property
    def start(self) -> Message:
        """The message that started the response."""
        return self.messages[0]

    @property
    def status(self) -> int:
        """The response's status; a WebSocket's close code; 101 for an accepted WebSocket."""
        if self.start["type"] == "websocket.accept":
            return 101
        code: int = self.start["code"] if "code" in self.start else self.start["status"]
        return code

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The response's headers."""
        return list(self.start["headers"])

    def header(self, name: bytes) -> list[bytes]:
        """Return all values of one header."""
        return [value for key, value in self.headers if key.lower() == name]

    @property
    def body(self) -> bytes:
        """The response's whole body."""
        return b"".join(message.get("body", b"") for message in self.messages[1:])

    @property
    def credentials(self) -> dict[str, str]:
        """The credentials that the application saw; fails unless it ran exactly once."""
        assert len(self.seen) == 1, f"the application ran {len(self.seen)} times"
        return self.seen[0]

    @property
    def refused(self) -> bool:
        """Whether the application never ran."""
        return not self.seen


class Probe:
    """An application that answers 200 (or accepts) and records its credentials."""

    def __init__(self, *response_headers: tuple[bytes, bytes]) -> None:
        self.seen: list[dict[str, str]] = []
        self.response_headers = list(response_headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen.append(metadata())
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": 1000})
        elif scope["type"] == "http":
            headers = [(b"content-length", b"2"), *self.response_headers]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"ok"})


async def request(app: ASGIApp, scope: Scope, body: Iterable[bytes] = (b"",)) -> Answer:
    """Run one scope through the application as a server would; a WebSocket only connects."""
    answer = Answer()
    *first, last = body
    inbox = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in first]
    inbox.append({"type": "http.request", "body": last, "more_body": False})
    if scope["type"] == "websocket":
        inbox = [{"type": "websocket.connect"}]

    async def receive() -> Message:
        if inbox:
            return inbox.pop(0)
        return {"type": f"{scope['type']}.disconnect"}

    async def send(message: Message) -> None:
        answer.messages.append(message)

    await app(scope, receive, send)
    return answer


def ask(make: Callable[..., ASGIApp], scope: Scope, /, *arguments: Any, **options: Any) -> Answer:
    """Wrap a fresh probe in the middleware with these arguments and send it one scope."""
    probe = Probe()
    answer = asyncio.run(request(make(probe, *arguments, **options), scope))
    answer.seen = probe.seen
    return answer


@dataclass
class Response:
    """A response received over a socket."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


class Connection:
    """A client connection for raw bytes."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def read_some(self) -> bytes:
        """Return what has arrived, waiting for something; b"" once the server has closed."""
        if self._buffer:
            data, self._buffer = self._buffer, b""
            return data
        return self._socket.recv(65536)

    def read_until(self, mark: bytes) -> bytes:
        """Return all bytes up to and including the mark."""
        while mark not in self._buffer:
            data = self._socket.recv(65536)
            assert data, f"connection closed before {mark!r}; got {self._buffer!r}"
            self._buffer += data
        head, _, self._buffer = self._buffer.partition(mark)
        return head + mark

    def read_exactly(self, length: int) -> bytes:
        """Return that many bytes."""
        while len(self._buffer) < length:
            data = self._socket.recv(65536)
            assert data, f"connection closed; got {self._buffer!r}"
            self._buffer += data
        data, self._buffer = self._buffer[:length], self._buffer[length:]
        return data

    def read_head(self) -> Response:
        """Read a response's status line and headers, not its body."""
        lines = self.read_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines[1:] if line)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        return Response(int(lines[0].split()[1]), headers, b"")

    def read_response(self) -> Response:
        """Read one response with a Content-Length."""
        response = self.read_head()
        response.body = self.read_exactly(int(response.headers.get("content-length", "0")))
        return response

    def ask(self, method: str, path: str, *lines: str, body: bytes = b"") -> Response:
        """Send one request, headers given as lines, and read the response."""
        self.send(message(method, path, *lines, body=body))
        return self.read_response()

    def open_websocket(self, path: str, *lines: str) -> Response:
        """Send a WebSocket handshake and read the answer to it."""
        return self.ask(
            "GET",
            path,
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            *lines,
        )

    def read_text_frame(self) -> str:
        """Read one short unmasked WebSocket text frame (RFC 6455 5.2)."""
        first, length = self.read_exactly(2)
        assert first == 0x81
        if length == 126:
            length = int.from_bytes(self.read_exactly(2), "big")
        return self.read_exactly(length).decode()


def message(method: str, path: str, *lines: str, body: bytes = b"") -> bytes:
    """Return an HTTP/1.1 request as bytes; header lines are Latin-1."""
    if body:
        lines = (*lines, f"Content-Length: {len(body)}")
    head = "\r\n".join([f"{method} {path} HTTP/1.1", "Host: app.example.com", *lines, "", ""])
    return head.encode("latin-1") + body


@contextlib.contextmanager
def serve(
    app: ASGIApp, *, loop: str = "asyncio", http: str = "h11", **options: Any
) -> Iterator[int]:
    """Serve the application with uvicorn in a thread, on a port the system chose."""
    config = uvicorn.Config(
        app,
        loop=loop,
        http=http,
        lifespan="off",
        log_level="critical",
        timeout_keep_alive=120,  # longer than clients', so that they close first
        **options,
    )
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            wait_until(lambda: server.started)
            yield listener.getsockname()[1]
        finally:
            server.should_exit = server.force_exit = True
            thread.join(DEADLINE)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, or fail at the deadline."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "condition not met within the deadline"
        time.sleep(0.005)

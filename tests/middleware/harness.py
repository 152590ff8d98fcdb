"""Shared helpers: the file under test, an ASGI client, and a server on a real socket."""

import asyncio
import contextlib
import importlib.util
import os
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import parse_headers
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Self

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
DEADLINE = 60.0
"""Seconds any single wait may take before the case fails."""

Class = Any
"""The middleware's class, ours or the SDK's, or a subclass of it."""
Extractors = list[Callable[[Any], Any]] | None
Header = tuple[bytes, bytes]

ALICE = (b"authorization", b"Bearer alice")
IS_ALICE = {"authorization": "Bearer alice"}
COOKIE = (b"cookie", b"session=alice")
EVIL = (b"origin", b"https://evil.example")
DENIAL: dict[str, Any] = {"extensions": {"websocket.http.response": {}}}
"""The scope of a server that can deny a WebSocket with a response."""


def case(name: str, *values: Any) -> Any:
    """Return a parameter with a name."""
    return pytest.param(*values, id=name)


def middleware_file() -> Path:
    """Return the path of the file under test, or PASSTHROUGH_AUTH_FILE if that is set."""
    if other := os.environ.get("PASSTHROUGH_AUTH_FILE"):
        return Path(other).resolve()
    return TEMPLATE / "{{cookiecutter.project_slug}}" / "passthrough" / "passthrough_auth.py"


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


def who() -> str:
    """Return the Authorization that a call to Flyte would have here, or "nobody"."""
    return metadata().get("authorization", "nobody")


def get(*headers: Header, path: str = "/", method: str = "GET", **more: Any) -> dict[str, Any]:
    """Return an ASGI 3 HTTP scope as a server would make it."""
    scope: dict[str, Any] = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1"}
    scope |= {"scheme": "http", "path": path, "raw_path": path.encode("utf-8", "surrogateescape")}
    scope |= {"root_path": "", "method": method, "query_string": b"", "state": {}}
    scope |= {"client": ("127.0.0.1", 50000), "server": ("127.0.0.1", 8000)}
    return scope | {"headers": [(b"host", b"app.example.com"), *headers], **more}


def post(*headers: Header, **more: Any) -> dict[str, Any]:
    return get(*headers, method="POST", **more)


def websocket(*headers: Header, **more: Any) -> dict[str, Any]:
    """Return an ASGI 3 WebSocket scope, by default without the denial response extension."""
    scope = get(*headers, scheme="ws", subprotocols=[], **more)
    del scope["method"]
    return {**scope, "type": "websocket"}


@dataclass
class Answer:
    """The messages that an application sent, and the credentials it saw."""

    messages: list[Message] = field(default_factory=list)
    seen: list[dict[str, str]] = field(default_factory=list)

    @property
    def status(self) -> int:
        """The response's status; a WebSocket's close code; 101 for an accepted WebSocket."""
        start = self.messages[0]
        return int(start.get("code") or start.get("status") or 101)

    @property
    def headers(self) -> list[Header]:
        return list(self.messages[0]["headers"])

    def header(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key.lower() == name]

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])

    @property
    def credentials(self) -> dict[str, str]:
        """The credentials that the application saw; fails unless it ran exactly once."""
        assert len(self.seen) == 1, f"the application ran {len(self.seen)} times"
        return self.seen[0]

    def refused(self, detail: str) -> bool:
        """Tell whether the application never ran, and the answer has this detail."""
        return not self.seen and self.body == b'{"detail":"%b"}' % detail.encode()


class Probe:
    """An application that answers 200 (or accepts) and records its credentials."""

    def __init__(self, *response_headers: Header) -> None:
        self.seen: list[dict[str, str]] = []
        self.response_headers = response_headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen.append(metadata())
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": 1000})
        else:
            await reply(send, b"ok", *self.response_headers)


async def reply(send: Send, body: bytes, *headers: Header) -> None:
    all_headers = [(b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": 200, "headers": all_headers})
    await send({"type": "http.response.body", "body": body})


async def request(app: ASGIApp, scope: Scope) -> Answer:
    """Run one scope through the application as a server would; a WebSocket only connects."""
    answer = Answer()
    body = {"type": "http.request", "body": b"", "more_body": False}
    inbox = [{"type": "websocket.connect"} if scope["type"] == "websocket" else body]

    async def receive() -> Message:
        return inbox.pop() if inbox else {"type": f"{scope['type']}.disconnect"}

    async def send(message: Message) -> None:
        answer.messages.append(message)

    await app(scope, receive, send)
    return answer


def ask(make: Class, scope: Scope, /, *arguments: Any, **options: Any) -> Answer:
    """Wrap a fresh probe in the middleware with these arguments and send it one scope."""
    probe = Probe()
    answer = asyncio.run(request(make(probe, *arguments, **options), scope))
    answer.seen = probe.seen
    return answer


class Response(NamedTuple):
    """A response received over a socket."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def read_exactly(self, length: int) -> bytes:
        data = self._file.read(length)
        assert len(data) == length, f"connection closed; got {data!r}"
        return data

    def read_response(self) -> Response:
        status = self._file.readline().split()[1]
        headers = {name.lower(): value for name, value in parse_headers(self._file).items()}
        body = self.read_exactly(int(headers.get("content-length", "0")))
        return Response(int(status), headers, body)

    def ask(self, method: str, path: str, *lines: str, body: bytes = b"") -> Response:
        """Send one request, headers given as lines, and read the response."""
        self.send(message(method, path, *lines, body=body))
        return self.read_response()

    def open_websocket(self, path: str, *lines: str) -> Response:
        """Send a WebSocket handshake and read the answer to it."""
        handshake = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
        handshake.append("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
        return self.ask("GET", path, *handshake, *lines)

    def read_text_frame(self) -> str:
        """Read one short unmasked WebSocket text frame (RFC 6455 5.2)."""
        first, length = self.read_exactly(2)
        assert first == 0x81
        return self.read_exactly(length).decode()


def message(method: str, path: str, *lines: str, body: bytes = b"") -> bytes:
    """Return an HTTP/1.1 request as bytes; header lines are Latin-1."""
    if body:
        lines = (*lines, f"Content-Length: {len(body)}")
    head = "\r\n".join([f"{method} {path} HTTP/1.1", "Host: app.example.com", *lines, "", ""])
    return head.encode("latin-1") + body


@contextlib.contextmanager
def serve(app: ASGIApp, *, loop: str, http: str, **options: Any) -> Iterator[int]:
    """Serve the application with uvicorn in a thread, on a port the system chose."""
    options |= {"loop": loop, "http": http, "lifespan": "off", "log_level": "critical"}
    options |= {"timeout_keep_alive": 120}  # longer than clients', so that they close first
    server = uvicorn.Server(uvicorn.Config(app, **options))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), "it does not start"
                time.sleep(0.005)
            yield listener.getsockname()[1]
        finally:
            server.should_exit = server.force_exit = True
            thread.join(DEADLINE)

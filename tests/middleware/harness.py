"""Helpers of the middleware tests: the file under test, an application, requests and a server."""

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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

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
"""Timeout of each wait, in seconds."""

Class = Any
"""The middleware class under test: ours, the SDK's, or a subclass."""
Header = tuple[bytes, bytes]

ALICE = (b"authorization", b"Bearer alice")
IS_ALICE = {"authorization": "Bearer alice"}
COOKIE = (b"cookie", b"session=alice")
EVIL = (b"origin", b"https://evil.example")
PREFLIGHT = [(b"origin", b"https://ui.example"), (b"access-control-request-method", b"POST")]
DENIAL: dict[str, Any] = {"extensions": {"websocket.http.response": {}}}
"""Scope of a server that supports denial responses for WebSockets."""
REFUSALS = {
    "Authentication credentials required": 401,
    "Conflicting Authorization headers": 400,
    "Conflicting cookies": 400,
    "Malformed credentials": 400,
    "Credentials too large": 431,
    "Cross-site request refused": 403,
}
"""Status of each refusal, by detail."""


def case(name: str, *values: Any) -> Any:
    """Return a test parameter with an id."""
    return pytest.param(*values, id=name)


def middleware_file() -> Path:
    """Return the path of the file under test; PASSTHROUGH_AUTH_FILE overrides it."""
    if other := os.environ.get("PASSTHROUGH_AUTH_FILE"):
        return Path(other).resolve()
    return TEMPLATE / "{{cookiecutter.project_slug}}" / "passthrough" / "passthrough_auth.py"


def import_copy(name: str) -> ModuleType:
    """Import the file under test again as the module ``name``."""
    spec = importlib.util.spec_from_file_location(name, middleware_file())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def metadata() -> dict[str, str]:
    """Return the credentials that a call to Flyte would have in this context."""
    return dict(get_auth_metadata())


def get(*headers: Header, path: str = "/", method: str = "GET", **more: Any) -> dict[str, Any]:
    """Return an ASGI 3 HTTP scope."""
    scope: dict[str, Any] = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1"}
    scope |= {"scheme": "http", "path": path, "raw_path": path.encode("utf-8", "surrogateescape")}
    scope |= {"root_path": "", "method": method, "query_string": b"", "state": {}}
    scope |= {"client": ("127.0.0.1", 50000), "server": ("127.0.0.1", 8000)}
    return scope | {"headers": [(b"host", b"app.example.com"), *headers], **more}


def post(*headers: Header, **more: Any) -> dict[str, Any]:
    return get(*headers, method="POST", **more)


def websocket(*headers: Header, **more: Any) -> dict[str, Any]:
    """Return an ASGI 3 WebSocket scope, by default without denial responses."""
    scope = get(*headers, scheme="ws", subprotocols=[], **more)
    del scope["method"]
    return {**scope, "type": "websocket"}


async def reply(send: Send, body: bytes, *headers: Header) -> None:
    all_headers = [(b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": 200, "headers": all_headers})
    await send({"type": "http.response.body", "body": body})


async def echo_credentials(scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI application that responds with the credentials that a call to Flyte would have."""
    credentials = json.dumps(metadata())
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": credentials})
        await send({"type": "websocket.close", "code": 1000})
        return
    while (await receive()).get("more_body"):
        pass
    await reply(send, credentials.encode())


@dataclass
class Result:
    """The messages that an application has sent."""

    messages: list[Message]

    @property
    def status(self) -> int:
        """Status of a response; close code of a WebSocket, or 101 if it is accepted."""
        start = self.messages[0]
        return int(start.get("code") or start.get("status") or 101)

    @property
    def headers(self) -> list[Header]:
        return list(self.messages[0]["headers"])

    @property
    def body(self) -> bytes:
        """Body of a response; first text of an accepted WebSocket."""
        text = self.messages[1].get("text", "").encode()
        return text or b"".join(message.get("body", b"") for message in self.messages[1:])

    @property
    def credentials(self) -> dict[str, str] | None:
        """Credentials from `echo_credentials`; None if the request was refused."""
        return json.loads(self.body) if self.status in (200, 101) else None

    def refused(self, detail: str) -> bool:
        """Return whether this is the refusal with this detail."""
        body = b'{"detail":"%b"}' % detail.encode()
        return (self.status, self.body) == (REFUSALS[detail], body)


async def request(app: ASGIApp, scope: Scope) -> Result:
    """Run the application for one scope; a WebSocket only connects."""
    messages: list[Message] = []
    body = {"type": "http.request", "body": b"", "more_body": False}
    inbox = [{"type": "websocket.connect"} if scope["type"] == "websocket" else body]

    async def receive() -> Message:
        return inbox.pop() if inbox else {"type": f"{scope['type']}.disconnect"}

    async def send(message: Message) -> None:
        messages.append(message)

    await app(scope, receive, send)
    return Result(messages)


def ask(make: Class, scope: Scope, /, *arguments: Any, **options: Any) -> Result:
    """Send one scope to `echo_credentials` behind the middleware with these arguments.

    The application must run once, or not at all if the request is refused.
    """
    runs = []

    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        runs.append(scope)
        await echo_credentials(scope, receive, send)

    result = asyncio.run(request(make(counted, *arguments, **options), scope))
    assert len(runs) == (result.status in (200, 101))
    return result


@contextlib.contextmanager
def serve(app: ASGIApp, *, loop: str, http: str, **options: Any) -> Iterator[int]:
    """Serve the application with uvicorn in a thread, and yield the port."""
    options |= {"loop": loop, "http": http, "lifespan": "off", "log_level": "critical"}
    options["timeout_keep_alive"] = 120  # longer than that of clients, so that clients close first
    server = uvicorn.Server(uvicorn.Config(app, **options))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), "the server does not start"
                time.sleep(0.005)
            yield listener.getsockname()[1]
        finally:
            server.should_exit = server.force_exit = True
            thread.join(DEADLINE)

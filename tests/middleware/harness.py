"""What the tests share: the file under test, an application, requests to it, and a server."""

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
"""Seconds any single wait may take before the case fails."""

Class = Any
"""The middleware's class, ours or the SDK's, or a subclass of it."""
Header = tuple[bytes, bytes]

ALICE = (b"authorization", b"Bearer alice")
IS_ALICE = {"authorization": "Bearer alice"}
COOKIE = (b"cookie", b"session=alice")
EVIL = (b"origin", b"https://evil.example")
PREFLIGHT = [(b"origin", b"https://ui.example"), (b"access-control-request-method", b"POST")]
DENIAL: dict[str, Any] = {"extensions": {"websocket.http.response": {}}}
"""The scope of a server that can deny a WebSocket with a response."""
REFUSALS = {
    "Authentication credentials required": 401,
    "Conflicting Authorization headers": 400,
    "Conflicting cookies": 400,
    "Malformed credentials": 400,
    "Credentials too large": 431,
    "Cross-site request refused": 403,
}
"""The details of all refusals, and their statuses."""


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


async def reply(send: Send, body: bytes, *headers: Header) -> None:
    all_headers = [(b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": 200, "headers": all_headers})
    await send({"type": "http.response.body", "body": body})


async def tell(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer, as an application, with the credentials that a call to Flyte has here."""
    told = json.dumps(metadata())
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": told})
        await send({"type": "websocket.close", "code": 1000})
        return
    while (await receive()).get("more_body"):
        pass
    await reply(send, told.encode())


@dataclass
class Answer:
    """The messages that an application sent."""

    messages: list[Message]

    @property
    def status(self) -> int:
        """The response's status; a WebSocket's close code; 101 for an accepted WebSocket."""
        start = self.messages[0]
        return int(start.get("code") or start.get("status") or 101)

    @property
    def headers(self) -> list[Header]:
        return list(self.messages[0]["headers"])

    @property
    def body(self) -> bytes:
        """The response's body; the first text of an accepted WebSocket."""
        text = self.messages[1].get("text", "").encode()
        return text or b"".join(message.get("body", b"") for message in self.messages[1:])

    @property
    def credentials(self) -> dict[str, str] | None:
        """The credentials that `tell` saw; None if the request was refused."""
        return json.loads(self.body) if self.status in (200, 101) else None

    def refused(self, detail: str) -> bool:
        """Tell whether this is the refusal with that detail."""
        body = b'{"detail":"%b"}' % detail.encode()
        return (self.status, self.body) == (REFUSALS[detail], body)


async def request(app: ASGIApp, scope: Scope) -> Answer:
    """Run one scope through the application as a server would; a WebSocket only connects."""
    messages: list[Message] = []
    body = {"type": "http.request", "body": b"", "more_body": False}
    inbox = [{"type": "websocket.connect"} if scope["type"] == "websocket" else body]

    async def receive() -> Message:
        return inbox.pop() if inbox else {"type": f"{scope['type']}.disconnect"}

    async def send(message: Message) -> None:
        messages.append(message)

    await app(scope, receive, send)
    return Answer(messages)


def ask(make: Class, scope: Scope, /, *arguments: Any, **options: Any) -> Answer:
    """Send one scope to `tell` in the middleware with these arguments.

    It must run exactly once, or not at all if the request is refused.
    """
    runs = []

    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        runs.append(scope)
        await tell(scope, receive, send)

    answer = asyncio.run(request(make(counted, *arguments, **options), scope))
    assert len(runs) == (answer.status in (200, 101))
    return answer


@contextlib.contextmanager
def serve(app: ASGIApp, *, loop: str, http: str, **options: Any) -> Iterator[int]:
    """Serve the application with uvicorn in a thread, on a port the system chose."""
    options |= {"loop": loop, "http": http, "lifespan": "off", "log_level": "critical"}
    options |= {"timeout_keep_alive": 120}  # longer than clients', so that they close first
    server = uvicorn.Server(uvicorn.Config(app, **options))
    with socket.create_server(("127.0.0.1", 0)) as listener:
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

"""Apps with a few endpoints each, and clients that send them what they like."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from flyte.types import TypeEngine
from flyteidl2.core.literals_pb2 import Literal
from flyteidl2.core.types_pb2 import LiteralType

from local_flyte import LocalFlyte, ReceivedCall
from local_flyte.actions import Run
from local_flyte.processes import DONE  # the SDK sometimes aborts after its work
from local_flyte.testing import Event, bearer, events
from passthrough import load_settings
from passthrough.application import App
from passthrough.calls.request_state import Deadline, RequestState, current_request
from passthrough.http.forwarding import ProjectDomain, passthrough_middleware
from passthrough.settings import Settings

Received = Callable[[], list[ReceivedCall]]
Called = Callable[[str], int]
"""The calls that Flyte has received since a test began, and how many there were of a method."""
AccessLog = Callable[[], list[dict[str, Any]]]
"""Returns the fields of the lines of the access log since the start of a test."""
TO_PYTHON_VALUE = vars(TypeEngine)["to_python_value"]  # the SDK's, before the app refuses it


def build_app(
    *routers: APIRouter,
    public: frozenset[str] = frozenset(),
    headers: dict[str, str] | None = None,
    **changed: Any,
) -> App:
    """Build an app like a generated one, with some settings changed."""
    patient = {"flyte_timeout": 120.0}  # enough even on a busy machine
    settings = load_settings(Settings).model_copy(update=patient | changed)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, str]]:
        yield {"opened": "by the app"}

    middleware = [passthrough_middleware(settings), ProjectDomain]
    app = App(settings, public, middleware, headers, lifespan=lifespan)
    for router in routers:
        app.include_router(router)
    return app


def head(path: str, *headers: str, person: str = "alice", method: str = "GET") -> bytes:
    """Return a person's request, up to its body."""
    lines = [f"{method} {path} HTTP/1.1", "Host: app", f"Authorization: {bearer(person)}"]
    return "\r\n".join([*lines, *headers, "\r\n"]).encode()


def connected(url: str, sent: bytes, buffer: int | None = None) -> socket.socket:
    """Connect to an app, with this buffer for its answer, and send something."""
    client, address = socket.socket(), urlsplit(url)
    if buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    client.settimeout(60)
    client.connect((address.hostname, address.port))
    with suppress(OSError):  # closed before all of it was sent
        client.sendall(sent)
    return client


def run_of(local_flyte: LocalFlyte, name: str) -> Run:
    """Return Flyte's own record of a run."""
    (found,) = (run for run in local_flyte._services.runs.values() if run.id.name == name)
    return found


def router_of(*modules: Any) -> APIRouter:
    """Return a router with the endpoints of several modules."""
    router = APIRouter()
    for module in modules:
        router.include_router(module.router)
    return router


def sent(client: httpx.Client, run: str, kind: str, **headers: str) -> list[Event]:
    """Return the events of a run's stream, until it ends."""
    return [*events(client.get(f"/runs/{run}/{kind}", headers=headers))]


def begin_request() -> RequestState:
    """Begin a request with a deadline of a minute, in the current task."""
    state = RequestState(Deadline(30, lambda: None))
    current_request.set(state)
    return state


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, where everything can be imported as here."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode in DONE, done.stderr
    return done


def type_of(kind: Any) -> LiteralType:
    return TypeEngine.to_literal_type(kind)


def as_the_sdk(value: Any, kind: Any) -> Literal:
    return asyncio.run(TypeEngine.to_literal(value, kind, type_of(kind)))


def as_a_task_reads(literal: Literal, kind: Any) -> Any:
    """Convert a literal to a type, as the SDK does in a task."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TypeEngine, "to_python_value", TO_PYTHON_VALUE)
        return asyncio.run(TypeEngine.to_python_value(literal, kind))

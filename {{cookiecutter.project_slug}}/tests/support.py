"""Helpers for the tests: the app on a real socket, people who call it, and runs that they start.

Nothing here uses an endpoint of the app, so any endpoint can be deleted. If a test needs another
endpoint than the one it tests, it declares that with ``needs``.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import flyte
import httpx
import pytest
import uvicorn
from fastapi.routing import APIWebSocketRoute, iter_route_contexts
from flyte import remote
from starlette.routing import Match
from starlette.types import ASGIApp

from app.main import app
from local_flyte import PEOPLE
from passthrough.requests.serving import UVICORN

from .deployed_tasks import env

ROOT = Path(__file__).parent.parent
TASKS = env.name
"""The prefix of the tests' own tasks: ``{TASKS}.greet`` and ``{TASKS}.count``."""
REAL_ENDPOINT = os.environ.get("FLYTE_TEST_ENDPOINT")


# The app's endpoints


def offers(path: str, method: str = "GET") -> bool:
    """Tell whether the app has this endpoint; ``WEBSOCKET`` is a method here."""
    kind = "websocket" if method == "WEBSOCKET" else "http"
    scope = {"type": kind, "method": method, "path": path, "root_path": "", "headers": []}
    return any(route.matches(scope)[0] is Match.FULL for route in app.routes)


def needs(path: str, method: str = "GET") -> pytest.MarkDecorator:
    """Skip a test if the app lacks an endpoint that the test needs but does not test."""
    return pytest.mark.skipif(
        not offers(path, method), reason=f"the app does not have {method} {path}"
    )


PUBLIC = {
    path
    for middleware in app.user_middleware
    for path in cast("Iterable[str]", middleware.kwargs.get("excluded_paths", ()))
}
"""The paths that need no credentials, according to ``app/main.py``."""

OPERATIONS = {
    (method.upper(), path): "text/event-stream"
    in operation["responses"].get("200", {}).get("content", {})
    for path, operations in app.openapi()["paths"].items()
    for method, operation in operations.items()
    if path not in PUBLIC
}
"""Method and path of every endpoint that needs credentials, and whether it returns events."""

TOOLS = [
    operations["get"]["operationId"]
    for path, operations in app.openapi()["paths"].items()
    if "get" in operations and "{" not in path and path not in PUBLIC
]
"""Tools for AI agents that need no arguments."""

if TOOLS and offers("/mcp", "POST"):
    OPERATIONS["POST", "/mcp"] = False

WEBSOCKETS = [
    str(route.path)
    for route in iter_route_contexts(app.routes)
    if isinstance(route.original_route, APIWebSocketRoute)
]


# Serving and calling the app


@contextmanager
def serving(app: ASGIApp) -> Iterator[str]:
    """Serve an app from a thread on a port that the operating system chooses; yield its URL."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", **UVICORN))
    thread = threading.Thread(target=server.run, daemon=True)  # a failing test may block it
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive())
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive(), "the app does not stop: a request is still being served"


def wait_until(condition: Callable[[], object], seconds: float = 200) -> None:
    """Wait for a condition, and fail if it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} seconds"
        time.sleep(0.02)


def authorization_of(name: str) -> str:
    """Return the Authorization header of a person on the local Flyte, or on a real one."""
    if REAL_ENDPOINT:
        return f"Bearer {os.environ.get(f'FLYTE_TEST_TOKEN_{name.upper()}', name)}"
    return f"Bearer {PEOPLE[name].token}"


@contextmanager
def client_of(url: str, name: str | None) -> Iterator[httpx.Client]:
    """Make a client that calls as a person, with a bearer token, or anonymously."""
    headers = {"Authorization": authorization_of(name)} if name else {}
    with httpx.Client(base_url=url, headers=headers, timeout=200, trust_env=False) as client:
        yield client


# Runs, started with the SDK as a client's person


def run_task(client: httpx.Client, task: str, **inputs: Any) -> dict[str, Any]:
    """Start a run of one of the tests' tasks; return its name, project and domain."""
    with calling_as(client):
        found = remote.Task.get(f"{TASKS}.{task}", auto_version="latest")
        run = flyte.run(found, **inputs)
    id_ = run.pb2.action.id.run
    return {"name": id_.name, "project": id_.project, "domain": id_.domain}


def finished(client: httpx.Client, run: dict[str, Any]) -> dict[str, Any]:
    """Wait until a run has ended, and return it."""
    with calling_as(client):
        wait_until(lambda: remote.Run.get(name=run["name"]).done())
    return run


@contextmanager
def long_run(client: httpx.Client) -> Iterator[dict[str, Any]]:
    """Start a run that continues until the block ends."""
    run = run_task(client, "count", to=100_000)
    try:
        yield run
    finally:
        with calling_as(client):
            remote.Run.get(name=run["name"]).abort()


def calling_as(client: httpx.Client) -> Any:
    """Let the SDK call Flyte as a client's person inside the block."""
    return remote.auth_metadata(("authorization", client.headers["Authorization"]))

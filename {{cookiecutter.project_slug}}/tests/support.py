"""What the tests use: the app on a real socket, people who call it, and runs that they start."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from local_flyte import PEOPLE

ROOT = Path(__file__).parent.parent
TASKS = "{{ cookiecutter.project_slug }}-tasks"
REAL_ENDPOINT = os.environ.get("FLYTE_TEST_ENDPOINT")


@contextmanager
def serving(app: FastAPI, **options: Any) -> Iterator[str]:
    """Serve an app from a thread on a port that the operating system chooses; yield its URL."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", **options))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive())
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive(), "the app does not stop: a request is still being served"


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for a condition, and fail if it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} seconds"
        time.sleep(0.02)


@contextmanager
def client_of(url: str, name: str) -> Iterator[httpx.Client]:
    """Make a client that calls as one of the local Flyte's people, by bearer token."""
    token = PEOPLE[name].token
    if REAL_ENDPOINT:
        token = os.environ[f"FLYTE_TEST_TOKEN_{name.upper()}"]
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False) as client:
        yield client


def run_task(client: httpx.Client, task: str, **inputs: Any) -> dict[str, Any]:
    """Start a run of a sample task and return it."""
    response = client.post(f"/tasks/{TASKS}.{task}/runs", json={"inputs": inputs})
    assert response.status_code == 201, response.text
    run: dict[str, Any] = response.json()
    return run


def finished(client: httpx.Client, run: dict[str, Any]) -> dict[str, Any]:
    """Wait for a run to end, by following its events, and return it."""
    assert client.get(f"/runs/{run['name']}/events").status_code == 200
    ended: dict[str, Any] = client.get(f"/runs/{run['name']}").json()
    return ended

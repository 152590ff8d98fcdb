"""The app on a real socket, and people who call it; Flyte behind it is the local one.

Set ``FLYTE_TEST_ENDPOINT`` (``dns:///host[:port]``) to run the same tests against a real Flyte on
which this app's tasks are deployed, with ``FLYTE_TEST_TOKEN_ALICE`` and ``FLYTE_TEST_TOKEN_BOB``
holding access tokens of two people who may run tasks there. What needs the local Flyte's own people
or its records is marked ``local_flyte`` and is then skipped.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from app.main import create_app
from app.settings import load_settings
from local_flyte import PEOPLE, LocalFlyte, ReceivedCall

ROOT = Path(__file__).parent.parent
TASKS = "{{ cookiecutter.project_slug }}-tasks"
REAL_ENDPOINT = os.environ.get("FLYTE_TEST_ENDPOINT")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what only the local Flyte can show when the tests run against another."""
    if REAL_ENDPOINT:
        for item in items:
            if item.get_closest_marker("local_flyte") or "local_flyte" in _fixtures(item):
                item.add_marker(pytest.mark.skip(reason="shows something of the local Flyte only"))


def _fixtures(item: pytest.Item) -> list[str]:
    return getattr(item, "fixturenames", [])


@pytest.fixture(scope="session")
def local_flyte() -> Iterator[LocalFlyte]:
    """The local Flyte, with the sample tasks deployed by the real ``flyte deploy``."""
    with LocalFlyte() as local_flyte:
        local_flyte.deploy(ROOT)
        yield local_flyte


@pytest.fixture(scope="session")
def environment(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """The environment of a deployed app, set for this process too."""
    if REAL_ENDPOINT:
        variables = {"_U_EP_OVERRIDE": REAL_ENDPOINT}
    else:
        variables = request.getfixturevalue("local_flyte").app_environment()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield variables


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


@pytest.fixture(scope="session")
def app_url(environment: dict[str, str]) -> Iterator[str]:
    """The running app."""
    with serving(create_app(load_settings())) as url:
        yield url


@contextmanager
def client_of(url: str, name: str) -> Iterator[httpx.Client]:
    """Make a client that calls as one of the local Flyte's people, by bearer token."""
    token = PEOPLE[name].token
    if REAL_ENDPOINT:
        token = os.environ[f"FLYTE_TEST_TOKEN_{name.upper()}"]
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture
def received(local_flyte: LocalFlyte) -> Iterator[Callable[[], list[ReceivedCall]]]:
    """What the local Flyte has received since the test began."""
    local_flyte.clear_calls()
    yield lambda: local_flyte.calls
    local_flyte.clear_calls()


@pytest.fixture(scope="session")
def alice(app_url: str) -> Iterator[httpx.Client]:
    """Someone who may run tasks."""
    with client_of(app_url, "alice") as client:
        yield client


@pytest.fixture(scope="session")
def bob(app_url: str) -> Iterator[httpx.Client]:
    """Someone else who may run tasks."""
    with client_of(app_url, "bob") as client:
        yield client


@pytest.fixture(scope="session")
def carol(app_url: str, local_flyte: LocalFlyte) -> Iterator[httpx.Client]:
    """Someone whom Flyte knows, but who has no rights on the project."""
    with client_of(app_url, "carol") as client:
        yield client


@pytest.fixture(scope="session")
def expired(app_url: str, local_flyte: LocalFlyte) -> Iterator[httpx.Client]:
    """Someone whose token has expired."""
    with client_of(app_url, "expired") as client:
        yield client


@pytest.fixture(scope="session")
def anonymous(app_url: str) -> Iterator[httpx.Client]:
    """Someone without any credentials."""
    with httpx.Client(base_url=app_url, trust_env=False) as client:
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


@pytest.fixture(scope="session")
def greeting(alice: httpx.Client) -> dict[str, Any]:
    """A run of alice's that has succeeded."""
    return finished(alice, run_task(alice, "greet", name="Ada"))

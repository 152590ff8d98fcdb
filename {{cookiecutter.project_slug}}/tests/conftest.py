"""The app on a real socket, and people who call it; Flyte behind it is the local one.

Set ``FLYTE_TEST_ENDPOINT`` (``dns:///host[:port]``) to run the same tests against a real Flyte on
which this app's tasks are deployed, with ``FLYTE_TEST_TOKEN_ALICE`` and ``FLYTE_TEST_TOKEN_BOB``
holding access tokens of two people who may run tasks there. What needs the local Flyte's own people
or its records is marked ``local_flyte`` and is then skipped.
"""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from app.main import create_app
from app.settings import load_settings
from local_flyte import LocalFlyte, ReceivedCall

from .support import REAL_ENDPOINT, ROOT, client_of, finished, run_task, serving


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


@pytest.fixture(scope="session")
def app_url(environment: dict[str, str]) -> Iterator[str]:
    """The running app."""
    with serving(create_app(load_settings())) as url:
        yield url


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


@pytest.fixture(scope="session")
def greeting(alice: httpx.Client) -> dict[str, Any]:
    """A run of alice's that has succeeded."""
    return finished(alice, run_task(alice, "greet", name="Ada"))

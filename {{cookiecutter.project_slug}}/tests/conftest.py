"""The app on a real socket, and people who call it, with the local Flyte behind it.

The local Flyte is started once, with the tests' own tasks. Don't assume that it is otherwise empty:
there may be runs of other tests or other people. Set ``FLYTE_TEST_ENDPOINT`` (``dns:///host[:port]``)
to run the same tests against a real Flyte: see docs/testing.md. Tests that can't run there have a mark.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from flyte import remote

from app.main import create_app
from app.settings import Settings
from deployment import app_env
from local_flyte import LocalFlyte, ReceivedCall
from passthrough.settings import load_settings

from .support import (
    REAL_ENDPOINT,
    ROOT,
    calling_as,
    client_of,
    finished,
    long_run,
    run_task,
    serving,
)

NOT_ON_A_REAL_FLYTE = {
    "authorization": "depends on rights, and needs other people than alice and bob",
    "steers_flyte": "makes Flyte fail or hang, which only the local one can do",
    "reads_what_flyte_received": "reads the calls to Flyte, which only the local one records",
    "deploys": "deploys this project, which a real Flyte would keep",
}
"""The marks, with the reason to skip a test. A test without a mark runs on every Flyte."""


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks, and refuse a Flyte without TLS and sign-in."""
    for name, reason in NOT_ON_A_REAL_FLYTE.items():
        config.addinivalue_line("markers", f"{name}: {reason}")
    tokens = [os.environ.get(f"FLYTE_TEST_TOKEN_{name}") for name in ("ALICE", "BOB")]
    if REAL_ENDPOINT and (REAL_ENDPOINT.startswith("http://") or None in tokens):
        raise pytest.UsageError(
            "the tests need a Flyte with TLS and sign-in: set FLYTE_TEST_ENDPOINT to"
            " dns:///host[:port], and FLYTE_TEST_TOKEN_ALICE and FLYTE_TEST_TOKEN_BOB to the"
            " tokens of two people"
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that need the local Flyte if they run against another one."""
    for item in items if REAL_ENDPOINT else ():
        for name, reason in NOT_ON_A_REAL_FLYTE.items():
            if item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def local_flyte() -> Iterator[LocalFlyte]:
    """The local Flyte, with the tests' tasks."""
    assert not REAL_ENDPOINT, (
        "a test that uses the local Flyte needs a mark: see NOT_ON_A_REAL_FLYTE"
    )
    with LocalFlyte() as local_flyte:
        local_flyte.deploy(ROOT, "tests/deployed_tasks.py", "env")
        yield local_flyte


@pytest.fixture(scope="session")
def own_tasks(request: pytest.FixtureRequest) -> None:
    """The tasks that ``deployment.py`` deploys: for tests of endpoints that name one of them."""
    if not REAL_ENDPOINT:  # there, ``make deploy`` deploys them
        local_flyte: LocalFlyte = request.getfixturevalue("local_flyte")
        local_flyte.register(ROOT)


@pytest.fixture(scope="session")
def deployed_app(local_flyte: LocalFlyte) -> str:
    """The name of the app as ``flyte deploy`` puts it on the local Flyte, once it is up."""
    local_flyte.deploy(ROOT, "deployment.py", "app_env")
    local_flyte.wait_app(app_env.name, seconds=300)
    return app_env.name


@pytest.fixture(scope="session")
def settings(request: pytest.FixtureRequest) -> Iterator[Settings]:
    """The settings of a deployed app, from variables that are also set in this process."""
    if REAL_ENDPOINT:
        variables = {"_U_EP_OVERRIDE": REAL_ENDPOINT}
    else:
        variables = request.getfixturevalue("local_flyte").app_environment()
    variables["FLYTE_TIMEOUT"] = "100"  # seconds: enough even on a busy machine
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield load_settings(Settings)


@pytest.fixture(scope="session")
def app_url(settings: Settings) -> Iterator[str]:
    """The URL of the running app."""
    with serving(create_app(settings)) as url:
        yield url


@pytest.fixture
def received(local_flyte: LocalFlyte) -> Callable[[], list[ReceivedCall]]:
    """The calls that the local Flyte has received since the test began."""
    local_flyte.clear_calls()
    return lambda: local_flyte.calls


def client_as(name: str | None) -> Any:
    """Make a fixture with a client of the app that calls as this person."""

    @pytest.fixture(scope="session")
    def client(app_url: str) -> Iterator[httpx.Client]:
        with client_of(app_url, name) as client:
            yield client

    return client


alice, bob = client_as("alice"), client_as("bob")  # may run tasks
victor = client_as("victor")  # may view everything, and change nothing
carol = client_as("carol")  # has no rights on the project
anonymous = client_as(None)


@pytest.fixture(scope="session")
def expired(app_url: str) -> Iterator[httpx.Client]:
    """A client with a token that is no longer valid."""
    with client_of(app_url, "expired") as client:
        with suppress(Exception), calling_as(client):
            list(remote.Project.listall())
            pytest.skip("this Flyte accepts any token")
        yield client


@pytest.fixture(scope="session")
def hurried(settings: Settings) -> Iterator[httpx.Client]:
    """Alice's client of an app with a short timeout for Flyte."""
    impatient = settings.model_copy(update={"flyte_timeout": 1.0})
    with serving(create_app(impatient)) as url, client_of(url, "alice") as client:
        yield client


@pytest.fixture(scope="session")
def greeting(alice: httpx.Client) -> dict[str, Any]:
    """A run by alice that has succeeded: its name, project and domain."""
    return finished(alice, run_task(alice, "greet", name="Ada"))


@pytest.fixture(scope="session")
def counting(alice: httpx.Client) -> Iterator[dict[str, Any]]:
    """A run by alice that does not end. Don't abort it."""
    with long_run(alice) as run:
        yield run

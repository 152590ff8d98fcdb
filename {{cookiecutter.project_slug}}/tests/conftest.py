"""The app on a real socket, and people who call it; Flyte behind it is the local one.

Each test file begins with a local Flyte that holds the tests' own tasks and nothing else, and with
an app of its own.

Set ``FLYTE_TEST_ENDPOINT`` (``dns:///host[:port]``) to run the same tests against a real Flyte, as
README.md says. Tests that can't run there have a mark that says why not.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from app.main import create_app
from app.settings import Settings
from passthrough.settings import load_settings
from local_flyte import LocalFlyte, ReceivedCall

from .support import REAL_ENDPOINT, ROOT, client_of, finished, run_task, serving

NOT_ON_A_REAL_FLYTE = {
    "authorization": "depends on who may do what, and needs others than alice and bob",
    "logs_after_end": "reads a log after the end: a real Flyte has it only as long as the pod",
    "order": "depends on the order of runs: a real Flyte keeps none within a second",
    "steers_flyte": "makes Flyte fail, hang or lag: only the local one can be told to",
    "reads_what_flyte_received": "reads what Flyte has received: only the local one tells",
    "deploys": "deploys this project, which a real Flyte would keep",
}
"""The marks, and why a test that has one is skipped. A test that has none runs on every Flyte."""


def pytest_configure(config: pytest.Config) -> None:
    """Make the marks known, and refuse a Flyte that can't tell alice from bob."""
    for name, reason in NOT_ON_A_REAL_FLYTE.items():
        config.addinivalue_line("markers", f"{name}: {reason}")
    tokens = [os.environ.get(f"FLYTE_TEST_TOKEN_{name}") for name in ("ALICE", "BOB")]
    if REAL_ENDPOINT and (REAL_ENDPOINT.startswith("http://") or None in tokens):
        raise pytest.UsageError(
            "the tests need a Flyte with TLS, which tells callers apart: set FLYTE_TEST_ENDPOINT to"
            " dns:///host[:port], and FLYTE_TEST_TOKEN_ALICE and FLYTE_TEST_TOKEN_BOB to the"
            " tokens of two people"
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what only the local Flyte can show when the tests run against another."""
    if REAL_ENDPOINT:
        for item in items:
            for name, reason in NOT_ON_A_REAL_FLYTE.items():
                if item.get_closest_marker(name):
                    item.add_marker(pytest.mark.skip(reason=reason))
                    break


@pytest.fixture(scope="session")
def _started_flyte() -> Iterator[LocalFlyte]:
    assert not REAL_ENDPOINT, "a test of the local Flyte needs a mark: NOT_ON_A_REAL_FLYTE has them"
    with LocalFlyte() as local_flyte:
        local_flyte.deploy(ROOT, "tests/deployed_tasks.py", "env")
        yield local_flyte


@pytest.fixture(scope="module")
def local_flyte(_started_flyte: LocalFlyte) -> LocalFlyte:
    """The local Flyte, on which the tests' tasks are deployed and nothing else has happened yet."""
    _started_flyte.reset()
    return _started_flyte


@pytest.fixture(scope="module")
def environment(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """The environment of a deployed app, set for this process too."""
    if REAL_ENDPOINT:
        variables = {"_U_EP_OVERRIDE": REAL_ENDPOINT}
    else:
        variables = request.getfixturevalue("local_flyte").app_environment()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FLYTE_ENDPOINT", raising=False)  # would outrank the other
        for name, value in variables.items():
            patch.setenv(name, value)
        yield variables


@pytest.fixture(scope="module")
def app_url(environment: dict[str, str]) -> Iterator[str]:
    """The running app."""
    with serving(create_app(load_settings(Settings))) as url:
        yield url


@pytest.fixture
def received(local_flyte: LocalFlyte) -> Iterator[Callable[[], list[ReceivedCall]]]:
    """What the local Flyte has received since the test began."""
    local_flyte.clear_calls()
    yield lambda: local_flyte.calls
    local_flyte.clear_calls()


@pytest.fixture(scope="module")
def alice(app_url: str) -> Iterator[httpx.Client]:
    """Someone who may run tasks."""
    with client_of(app_url, "alice") as client:
        yield client


@pytest.fixture(scope="module")
def bob(app_url: str) -> Iterator[httpx.Client]:
    """Someone else who may run tasks."""
    with client_of(app_url, "bob") as client:
        yield client


@pytest.fixture(scope="module")
def victor(app_url: str, local_flyte: LocalFlyte) -> Iterator[httpx.Client]:
    """Someone who may look at everything, and change nothing."""
    with client_of(app_url, "victor") as client:
        yield client


@pytest.fixture(scope="module")
def carol(app_url: str, local_flyte: LocalFlyte) -> Iterator[httpx.Client]:
    """Someone whom Flyte knows, but who has no rights on the project."""
    with client_of(app_url, "carol") as client:
        yield client


@pytest.fixture(scope="module")
def expired(app_url: str, local_flyte: LocalFlyte) -> Iterator[httpx.Client]:
    """Someone whose token has expired."""
    with client_of(app_url, "expired") as client:
        yield client


@pytest.fixture(scope="module")
def anonymous(app_url: str) -> Iterator[httpx.Client]:
    """Someone without any credentials."""
    with client_of(app_url, None) as client:
        yield client


@pytest.fixture(scope="module")
def hurried(environment: dict[str, str]) -> Iterator[httpx.Client]:
    """Alice, calling an app that gives Flyte little time."""
    settings = load_settings(Settings).model_copy(update={"flyte_timeout": 1.0})
    with serving(create_app(settings)) as url, client_of(url, "alice") as client:
        yield client


@pytest.fixture(scope="module")
def greeting(alice: httpx.Client) -> dict[str, Any]:
    """A run of alice's that has succeeded: its name, project and domain."""
    return finished(alice, run_task(alice, "greet", name="Ada"))

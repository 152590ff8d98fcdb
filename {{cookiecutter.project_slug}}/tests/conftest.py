"""Fixtures for the running app, and for runs that tests read (docs/operating.md).

All tests share one local Flyte server with the tasks in deployed_tasks.py, so runs of other tests
may exist there.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.main import create_app
from app.settings import Settings
from deployment import app_env
from local_flyte import LocalFlyte
from local_flyte.testing import ended, long_run, serving, start
from passthrough import load_settings

from .deployed_tasks import ask, count, draw, greet

pytest_plugins = ["local_flyte.testing"]

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def project_and_domain() -> tuple[str, str]:
    """Return the app's default project and domain, for the local Flyte server."""
    fields = Settings.model_fields
    return fields["flyte_project"].default, fields["flyte_domain"].default


@pytest.fixture(scope="session")
def local_flyte(local_flyte: LocalFlyte) -> LocalFlyte:
    """Deploy the tasks of the tests to the local Flyte server, and return the server."""
    local_flyte.deploy(ROOT, "tests/deployed_tasks.py", "env")
    return local_flyte


@pytest.fixture(scope="session")
def deployed_app(local_flyte: LocalFlyte) -> str:
    """Deploy the app to the local Flyte server, wait until it is active, and return the name."""
    local_flyte.deploy(ROOT, "deployment.py", "app_env")
    local_flyte.wait_app(app_env.name)
    return app_env.name


@pytest.fixture(scope="session")
def settings(flyte_variables: dict[str, str]) -> Settings:
    """Return the settings of a deployed app."""
    return load_settings(Settings)


@pytest.fixture(scope="session")
def url(settings: Settings) -> Iterator[str]:
    """Serve the app, and yield the URL."""
    with serving(create_app(settings)) as url:
        yield url


@pytest.fixture(scope="session")
def greeting(url: str) -> str:
    """Return the name of a succeeded run of alice."""
    return ended(start(greet.name, name="Ada"))


@pytest.fixture(scope="session")
def drawing(url: str) -> str:
    """Return the name of a succeeded run of alice with a report, for the guarantee tests."""
    return ended(start(draw.name))


@pytest.fixture(scope="session")
def asking(url: str) -> str:
    """Return the name of a run of alice that asks a condition, for the guarantee tests."""
    return start(ask.name, prompt="Continue?")


@pytest.fixture(scope="session")
def counting(url: str) -> Iterator[str]:
    """Yield the name of a run of alice that does not end. Don't abort the run."""
    with long_run(count.name, to=100_000) as run:
        yield run

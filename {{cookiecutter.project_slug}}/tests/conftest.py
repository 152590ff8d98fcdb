"""The running app, and runs to call it about: see docs/operating.md.

The local Flyte is started once, with the tests' own tasks. It may have runs of other tests.
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

from .deployed_tasks import count, greet

pytest_plugins = ["local_flyte.testing"]

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def project_and_domain() -> tuple[str, str]:
    """Where the tests run: where the app does by default."""
    fields = Settings.model_fields
    return fields["flyte_project"].default, fields["flyte_domain"].default


@pytest.fixture(scope="session")
def local_flyte(local_flyte: LocalFlyte) -> LocalFlyte:
    """The local Flyte, with the tests' tasks."""
    local_flyte.deploy(ROOT, "tests/deployed_tasks.py", "env")
    return local_flyte


@pytest.fixture(scope="session")
def deployed_app(local_flyte: LocalFlyte) -> str:
    """The name of the app as ``flyte deploy`` puts it on the local Flyte, once it is up."""
    local_flyte.deploy(ROOT, "deployment.py", "app_env")
    local_flyte.wait_app(app_env.name)
    return app_env.name


@pytest.fixture(scope="session")
def settings(flyte_variables: dict[str, str]) -> Settings:
    """The settings of a deployed app."""
    return load_settings(Settings)


@pytest.fixture(scope="session")
def url(settings: Settings) -> Iterator[str]:
    """The address of the running app."""
    with serving(create_app(settings)) as url:
        yield url


@pytest.fixture(scope="session")
def greeting(url: str) -> str:
    """The name of a run by alice that has succeeded."""
    return ended(start(greet.name, name="Ada"))


@pytest.fixture(scope="session")
def counting(url: str) -> Iterator[str]:
    """The name of a run by alice that does not end. Don't abort it."""
    with long_run(count.name, to=100_000) as run:
        yield run

"""Shared fixtures: a clean copy of the template, generated projects, and the running app."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from template import copy_template

from local_flyte import LocalFlyte

from .baking import Baker, files_in
from .served import App, serving_app

pytest_plugins = ["local_flyte.testing"]

# Use the same examples in every run, also on slow machines.
hypothesis.settings.register_profile(
    "repeatable",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run slow files first, and the quick tests of the middleware last.

    Otherwise one process would run a slow file after the other processes have ended.
    """

    def place(item: pytest.Item) -> tuple[bool, bool, int]:
        slow, quick = item.get_closest_marker("slow"), item.path.parent.name == "middleware"
        return not slow, quick, len(item.path.parts)

    items.sort(key=place)


@pytest.fixture(scope="session")
def baker(tmp_path_factory: pytest.TempPathFactory) -> Baker:
    """Return a function that generates projects from a clean copy of the template."""
    folder = tmp_path_factory.mktemp("template")
    return Baker(copy_template(folder / "cookiecutter-flyte-app"), folder)


@pytest.fixture(scope="session")
def default_project(baker: Baker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield the project with the default answers. Don't change it."""
    project = baker(tmp_path_factory.mktemp("default"))
    files = files_in(project)
    yield project
    assert files_in(project) == files, "a test has changed the default project"


@pytest.fixture
def project(default_project: Path, tmp_path: Path) -> Path:
    """Return a copy of the default project that the test may change."""
    return Path(shutil.copytree(default_project, tmp_path / default_project.name))


@pytest.fixture(scope="session")
def flyte() -> Iterator[LocalFlyte]:
    """Run a local Flyte server with the tasks of the browser tests."""
    with LocalFlyte() as local_flyte:
        local_flyte.deploy(Path(__file__).parent / "browser", "page_tasks.py", "env")
        yield local_flyte


@pytest.fixture(scope="session")
def app(
    flyte: LocalFlyte, default_project: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[App]:
    """Serve the app, which uses the local Flyte server."""
    with serving_app(default_project, tmp_path_factory.mktemp("app") / "log", flyte) as app:
        yield app

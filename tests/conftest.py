"""Shared fixtures: a clean copy of the template, and a way to generate projects from it."""

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

# The same examples on every run, however slow the machine is.
hypothesis.settings.register_profile(
    "repeatable",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run first what takes long, an owner's steps, and last what does not, the middleware's tests.

    So no process is left with a long file when the others have ended.
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
    """A copy of the project with the default answers, to be changed."""
    return Path(shutil.copytree(default_project, tmp_path / default_project.name))


@pytest.fixture(scope="session")
def flyte() -> Iterator[LocalFlyte]:
    """A local Flyte with the tasks of these tests."""
    with LocalFlyte() as local_flyte:
        local_flyte.deploy(Path(__file__).parent / "browser", "page_tasks.py", "env")
        yield local_flyte


@pytest.fixture(scope="session")
def app(
    flyte: LocalFlyte, default_project: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[App]:
    """The app, connected to the local Flyte."""
    with serving_app(default_project, tmp_path_factory.mktemp("app") / "log", flyte) as app:
        yield app

"""What the tests share: a clean copy of the template, and a way to generate projects from it."""

from pathlib import Path

import pytest
from template import copy_template

from .baking import Baker


@pytest.fixture(scope="session")
def baker(tmp_path_factory: pytest.TempPathFactory) -> Baker:
    """Generate projects from the template as it would be cloned."""
    folder = tmp_path_factory.mktemp("template")
    return Baker(copy_template(folder / "cookiecutter-flyte-app"), folder)


@pytest.fixture(scope="session")
def default_project(baker: Baker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the project of the default answers. Read it; do not change it."""
    return baker(tmp_path_factory.mktemp("default"))

"""The oldest versions that the generated project claims."""

import os
import re
from pathlib import Path

import pytest

from .baking import Baker, run
from .walkthrough import (
    needs_python,
    path_with_tools,
)

pytestmark = pytest.mark.slow


def test_the_oldest_versions_of_everything_on_the_oldest_python(
    baker: Baker, tmp_path: Path
) -> None:
    """By the command that the generated project has for it; no licence."""
    python = needs_python("3.11")
    project = baker(tmp_path, license="none", python_version="3.11")
    path = path_with_tools(tmp_path / "bin")
    run(["uv", "venv", "--quiet", "--python", python], project, PATH=path)
    run(["uv", "pip", "install", "--quiet", "nox[uv]"], project, PATH=path)
    session = "tests-3.11(resolution='lowest-direct')"
    search_path = f"{Path(python).parent}{os.pathsep}{path}"
    said = run([".venv/bin/nox", "--session", session], project, PATH=search_path)
    assert re.search(r"\d{2,} passed", said)
    installed = run(
        ["uv", "pip", "list", "--python", next((project / ".nox").glob("tests-*"))],
        project,
        PATH=path,
    )
    assert re.search(r"^flyte +2\.8\.0$", installed, re.MULTILINE)

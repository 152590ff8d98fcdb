"""The oldest versions that the generated project claims."""

import json
import os
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

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
    listed = run(
        [
            "uv",
            "pip",
            "list",
            "--format=json",
            "--python",
            next((project / ".nox").glob("tests-*")),
        ],
        project,
        PATH=path,
    )
    installed = {package["name"]: Version(package["version"]) for package in json.loads(listed)}
    claimed = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))["project"]
    oldest = {
        requirement.name: Version(specifier.version)
        for requirement in map(Requirement, claimed["dependencies"])
        for specifier in requirement.specifier
        if specifier.operator == ">="
    }
    assert "flyte" in oldest
    assert {name: installed[name] for name in oldest} == oldest

"""The oldest versions that the generated project and the page of the middleware claim."""

import json
import os
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from template import ROOT

from .baking import Baker, run
from .walkthrough import needs_python, path_with_tools

pytestmark = pytest.mark.slow

TELL_VERSIONS = """
import importlib.metadata, json, sys
print(json.dumps({name: importlib.metadata.version(name) for name in sys.argv[1:]}))
"""


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
    claimed = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))["project"]
    oldest = {
        requirement.name: Version(specifier.version)
        for requirement in map(Requirement, claimed["dependencies"])
        for specifier in requirement.specifier
        if specifier.operator == ">="
    }
    assert "flyte" in oldest
    tested = next((project / ".nox").glob("tests-*")) / "bin" / "python"
    told = run([tested, "-c", TELL_VERSIONS, *oldest], project)
    installed = {name: Version(version) for name, version in json.loads(told).items()}
    assert installed == oldest


def test_the_middleware_on_the_oldest_versions_that_its_page_claims(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "copying-the-middleware.md").read_text("utf-8")
    claim = r"CPython (\S+) to .*, flyte (\S+) and newer 2.x, and Starlette (\S+) and newer"
    python, flyte, starlette = re.search(claim, page).groups()  # type: ignore[union-attr]
    path = path_with_tools(tmp_path / "bin")
    run(["uv", "venv", "--quiet", "--python", needs_python(python), "venv"], tmp_path, PATH=path)
    suite_needs = ["cookiecutter", "fastapi", "httpx", "hypothesis", "pytest-xdist"]
    suite_needs += ["trustme", "uvicorn[standard]", "websockets"]
    exactly = [f"flyte=={flyte}", f"starlette=={starlette}"]
    install = ["uv", "pip", "install", "--quiet", "--python", "venv"]
    run([*install, *exactly, *suite_needs], tmp_path, PATH=path)
    command = [tmp_path / "venv" / "bin" / "python", "-m", "pytest", "-n", "2"]
    assert re.search(r"\d{3,} passed", run([*command, "tests/middleware"], ROOT))

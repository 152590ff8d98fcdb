"""Weekly tests with other Pythons, with the oldest versions, and without make."""

import json
import re
import tomllib
from pathlib import Path

import pages
import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from template import ROOT

from .baking import Baker, run
from .walkthrough import code_blocks, needs_python, path_with_tools

pytestmark = [pytest.mark.slow, pytest.mark.weekly]


def test_project_passes_with_oldest_versions(baker: Baker, tmp_path: Path) -> None:
    """The project has no licence."""
    python = needs_python("3.11")
    project = baker(tmp_path, license="none", python_version="3.11")
    path = path_with_tools(tmp_path / "bin")
    run(["uv", "venv", "--quiet", "--python", python], project, PATH=path)
    install = ["uv", "pip", "install", "--quiet", "--resolution", "lowest-direct"]
    run([*install, "--editable", ".", "--group", "dev"], project, PATH=path)
    output = run([".venv/bin/python", "-m", "pytest", "-n", "2"], project, PATH=path)
    assert re.search(r"\d{2,} passed", output)
    claimed = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))["project"]
    oldest = {
        requirement.name: Version(specifier.version)
        for requirement in map(Requirement, claimed["dependencies"])
        for specifier in requirement.specifier
        if specifier.operator == ">="
    }
    assert "flyte" in oldest
    packages = json.loads(run(["uv", "pip", "list", "--format", "json"], project, PATH=path))
    installed = {package["name"]: Version(package["version"]) for package in packages}
    assert {name: installed[name] for name in oldest} == oldest


# Tests that depend on the answers (names, metadata, credentials). test_readme.py runs all tests.
SOME_OF_THE_TESTS = "tests/test_deployment.py tests/test_me.py tests/test_guarantees.py"


@pytest.mark.parametrize("version", ["3.12", "3.14"])
def test_project_commands_without_make_succeed(version: str, baker: Baker, tmp_path: Path) -> None:
    """The project has short names, another licence, no CI, and text that needs quoting."""
    answers = {
        "project_slug": "a",
        "description": 'It\'s "hostile" \\n 🚀 <b> ${HOME} `id` --x',
        "author": 'O\'Brien "Bob" \\ 🚀',
        "python_version": version,
        "license": "MIT",
        "ci": "none",
        "flyte_project": "p",
        "flyte_domain": "d",
    }
    python = needs_python(version)
    project = baker(tmp_path, **answers)
    (_, install), (_, check) = (
        code_blocks(project / "README.md", heading, "sh") for heading in ("Run it", "Check it")
    )
    *setup, serve = install.splitlines()
    assert serve == ".venv/bin/python -m local_flyte"
    test, checks = check.splitlines()
    path = path_with_tools(tmp_path / "bin", python)
    for command in [*setup, test]:
        output = run(["sh", "-c", command], project, PATH=path, PYTEST_ADDOPTS=SOME_OF_THE_TESTS)
    assert re.search(r"\d{2,} passed", output)
    for command in checks.split(";"):
        run(command.split(), project)


SUITE_NEEDS = ["cookiecutter", "fastapi", "httpx", "hypothesis", "pytest-xdist", "trustme"]
SUITE_NEEDS += ["uvicorn[standard]", "websockets"]
# Tests that depend on generators, contexts and sockets of Python.
ISOLATION = ["test_abandoned.py", "test_copied_alone.py", "test_isolation.py"]
ISOLATION += ["test_sockets.py", "test_wire.py"]


def run_middleware_suite(python: str, packages: list[str], files: list[str], folder: Path) -> None:
    path = path_with_tools(folder / "bin")
    run(["uv", "venv", "--quiet", "--python", needs_python(python), "venv"], folder, PATH=path)
    install = ["uv", "pip", "install", "--quiet", "--python", "venv"]
    run([*install, *packages, *SUITE_NEEDS], folder, PATH=path)
    # Without the local Flyte server, which needs a newer SDK than the middleware.
    alone = ["-n", "2", "--confcutdir", "tests/middleware", "--hypothesis-profile", "ci"]
    alone += ["-m", "not weekly"]
    suite = ["-m", "pytest", *alone, *(f"tests/middleware/{name}" for name in files)]
    assert re.search(r"\d{2,} passed", run([folder / "venv/bin/python", *suite], ROOT))


def test_middleware_tests_pass_with_oldest_documented_versions(tmp_path: Path) -> None:
    oldest = {row["package"]: row["from"] for row in pages.data("copying")["works_with"]}
    python = oldest.pop("CPython")
    exactly = [f"{package.lower()}=={version}" for package, version in oldest.items()]
    run_middleware_suite(python, exactly, [""], tmp_path)


@pytest.mark.parametrize("python", ["3.12", "3.13", "3.14"])
def test_middleware_tests_pass_on_newer_pythons(python: str, tmp_path: Path) -> None:
    run_middleware_suite(python, ["flyte"], ISOLATION, tmp_path)

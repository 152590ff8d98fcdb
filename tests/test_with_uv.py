"""Another project, on the newest Python, set up with uv."""

import re
from pathlib import Path

import pytest

from .baking import Baker, run
from .walkthrough import check_quality, needs_python, path_with_tools

# Left out of `make test`, which runs the same tests on Python 3.12; `make test-all` runs them.
pytestmark = [pytest.mark.slow, pytest.mark.weekly]


def test_the_steps_with_uv_on_python_3_13(baker: Baker, tmp_path: Path) -> None:
    """With the longest names, and the options that other tests don't use."""
    answers = {
        "project_slug": "z" + "-z" * 14 + "z",
        "description": "漢字 " * 33 + "!",
        "python_version": "3.13",
        "license": "BSD-3-Clause",
        "credential_headers": "X-Api-Key, X-Tenant",
        "flyte_project": "p" * 63,
        "flyte_domain": "d" * 63,
    }
    python = needs_python("3.13")
    project = baker(tmp_path, **answers)
    path = path_with_tools(tmp_path / "bin")
    run(["uv", "sync", "--quiet"], project, PATH=path, UV_PYTHON=python)
    said = run(
        ["uv", "run", "pytest", "-n", "2"],
        project,
        PATH=path,
        UV_PYTHON=python,
    )
    assert re.search(r"\d{2,} passed", said)
    check_quality(project)

"""Another project, set up and tested with the steps for people without make."""

import os
import re
from pathlib import Path

import pytest

from .baking import Baker, run
from .test_prompts import load_hook
from .walkthrough import check_quality, needs_python

# Left out of `make test`, which has the same commands through make; `make test-all` runs them.
pytestmark = [pytest.mark.slow, pytest.mark.weekly]

# Tests that depend on the answers: names, metadata, credentials. test_readme.py runs all.
SOME_OF_THE_TESTS = " ".join(
    f"tests/test_{name}.py" for name in ("deployment", "me", "openapi", "promises")
)


def test_the_steps_without_make_on_python_3_12(baker: Baker, tmp_path: Path) -> None:
    """With short names, another licence, no CI, and text that needs quoting everywhere."""
    answers = {
        "project_slug": "a",
        "description": 'It\'s "hostile" \\n 🚀 <b> ${HOME} `id` --x',
        "author": 'O\'Brien "Bob" \\ 🚀',
        "python_version": "3.12",
        "license": "MIT",
        "ci": "none",
        "flyte_project": "p",
        "flyte_domain": "d",
    }
    python = needs_python("3.12")
    project = baker(tmp_path, **answers)
    hook = load_hook(tmp_path, "post_gen_project.py", None, **answers)
    steps = hook.next_steps(hook.ANSWERS, make=False)
    commands = re.findall(r"^    (\S.*?)(?:  +#.*)?$", steps, re.MULTILINE)
    assert commands[0] == "cd a"
    setup, test = commands[1:4], commands[5]
    assert test == ".venv/bin/python -m pytest -n 2"
    scripts = tmp_path / "bin"
    scripts.mkdir()
    (scripts / "python3").write_text(f'#!/bin/sh\nexec "{python}" "$@"\n')
    (scripts / "python3").chmod(0o755)
    for command in [*setup, test]:
        said = run(
            ["sh", "-c", command],
            project,
            PATH=f"{scripts}{os.pathsep}{os.environ['PATH']}",
            PYTEST_ADDOPTS=SOME_OF_THE_TESTS,
        )
    assert re.search(r"\d{2,} passed", said)
    check_quality(project)

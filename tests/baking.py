"""Helpers that generate projects from the template, and run commands in projects."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cookiecutter.main import cookiecutter
from template import ROOT

from local_flyte.processes import DONE

ASKED: dict[str, Any] = json.loads((ROOT / "cookiecutter.json").read_text("utf-8"))
QUESTIONS = {key: value for key, value in ASKED.items() if not key.startswith("_")}
PROMPTS = ASKED["__prompts__"]

ABORTED = re.compile(r"^make: \*\*\* .*\] (Aborted|Error 134)", re.MULTILINE)

BIN = Path(sys.executable).parent
"""This environment has the packages of a generated project; test_readme.py also installs them."""

PROJECT = "{{cookiecutter.project_slug}}"


@dataclass(frozen=True)
class Baker:
    """Generates projects from ``template`` without touching the home folder."""

    template: Path
    scratch: Path

    def config(self) -> Path:
        """Return a cookiecutter configuration whose folders are temporary."""
        config = self.scratch / "cookiecutter.yaml"
        clones, replay = self.scratch / "clones", self.scratch / "replay"
        config.write_text(f"cookiecutters_dir: {clones}\nreplay_dir: {replay}\n", "utf-8")
        return config

    def __call__(self, output: Path, **answers: str) -> Path:
        """Generate a project below ``output`` and return its folder.

        Raises:
            ValueError: If an answer is not a choice of the question.
            cookiecutter.exceptions.FailedHookException: If a hook refuses an answer.
        """
        assert answers.keys() <= QUESTIONS.keys()  # cookiecutter ignores answers to other questions
        project = cookiecutter(
            str(self.template),
            no_input=True,
            extra_context=answers,
            output_dir=str(output),
            config_file=str(self.config()),
        )
        return Path(project)


def files_in(project: Path) -> list[str]:
    """Return the sorted paths of a project's files with forward slashes, without bytecode."""
    files = (path.relative_to(project) for path in project.rglob("*") if path.is_file())
    return sorted(file.as_posix() for file in files if file.parent.name != "__pycache__")


def clean_environment(**extra: str) -> dict[str, str]:
    """Return an environment for commands of a project, without variables of this venv."""
    leaks = ("VIRTUAL_ENV", "PYTHONPATH", "PYTEST_", "COVERAGE_", "MAKE", "FLYTE", "_U_", "_F_")
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(leaks)}
    return inherited | {"PYTHONDONTWRITEBYTECODE": ""} | extra


def ended(
    command: Sequence[str | Path], cwd: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command until it exits. ``stdout`` contains standard output and standard error."""
    return subprocess.run(
        command,
        cwd=cwd,
        env=clean_environment(**environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
        timeout=1800,  # seconds, on a busy machine
    )


def run(command: Sequence[str | Path], cwd: Path, **environment: str) -> str:
    """Run a command, and return the output; raise AssertionError with the output if it fails."""
    done = ended(command, cwd, **environment)
    words, output = " ".join(map(str, command)), textwrap.indent(done.stdout[-20_000:], "    ")
    # A shell and make report an abort of ``flyte`` (see DONE) with other exit codes.
    good = {"flyte": DONE, "sh": {*DONE, 128 + signal.SIGABRT}}.get(Path(command[0]).name, {0})
    assert done.returncode in good or ABORTED.search(done.stdout), (
        f"{words} exited with {done.returncode}:\n{output}"
    )
    return done.stdout


def find_python(version: str) -> str | None:
    """Return the path of an installed Python with this version ("3.12"), or None."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    # uv finds only interpreters on PATH.
    for path in pyenv.glob(f"versions/{version}.*/bin/python"):
        return str(path)
    finder = [sys.executable, "-m", "uv", "python", "find", "--no-python-downloads", version]
    done = subprocess.run(finder, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def edit(file: Path, old: str, new: str) -> None:
    """Replace all occurrences of a text in a file."""
    text = file.read_text("utf-8")
    assert old in text, f"{file.name} has no {old!r}"
    file.write_text(text.replace(old, new), "utf-8")

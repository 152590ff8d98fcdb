"""Runs the commands in the documentation, on real installs."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from template import ROOT, tracked_files

from .baking import find_python, run
from .long_running import Running, curl_lines

FOR_MAKE = {"PYTHON": find_python("3.13") or sys.executable}
"""The default image's Python; other tests use the oldest and the newest."""


def code_blocks(readme: Path, heading: str, language: str) -> list[str]:
    """Return the blocks of code below a heading."""
    section = readme.read_text("utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    block = rf"^```{language}\b[^\n]*\n(.*?)^```$"
    return re.findall(block, section, re.MULTILINE | re.DOTALL)


def devcontainer(project: Path) -> dict[str, Any]:
    """Return how an editor is told to open a project in a container."""
    file = project / ".devcontainer" / "devcontainer.json"
    told: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return told


def code_block(heading: str, number: int = 0) -> list[str]:
    """Return the commands of a ``sh`` block of our README, by its heading."""
    block = code_blocks(ROOT / "README.md", heading, "sh")[number]
    return [line.partition("  #")[0].strip() for line in block.splitlines()]


def clone(destination: Path) -> Path:
    """Make a copy of this repository's working tree as a clone would have it."""
    for path in tracked_files():
        target = destination / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, target)
    commit(destination)
    return destination


def commit(folder: Path) -> None:
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    run(["git", "init", "--quiet", "--initial-branch=main"], folder)
    run(["git", "add", "--all"], folder)
    run(["git", *identity, "commit", "--quiet", "--message=first"], folder)


def path_with_tools(folder: Path) -> str:
    """Return a PATH with the template's ``uv`` and ``uvx``, and with this Python as python3."""
    folder.mkdir(exist_ok=True)
    scripts = Path(sys.executable).parent
    for name in ("uv", "uvx"):
        if not (folder / name).exists():
            (folder / name).symlink_to(scripts / name)
    python = folder / "python3"
    if not python.exists():
        base = Path(sys.base_prefix) / "bin" / "python3"
        python.write_text(f'#!/bin/sh\nexec "{base}" "$@"\n')
        python.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def as_alice_and_bob(app: Running) -> dict[str, str]:
    """Run the printed ``curl`` lines; return the answers by path."""
    answers = {}
    for number, command in enumerate(curl_lines(app.wait_until_ready())):
        done = subprocess.run(
            [command[0], "--silent", "--show-error", "--noproxy", "*", *command[1:]],
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
        answers[f"{number} {command[-1]}"] = done.stdout
    return answers


def check_two_people(app: Running) -> None:
    answers = as_alice_and_bob(app)
    me = [json.loads(answer) for asked, answer in answers.items() if asked.endswith("/me")]
    assert len({person["subject"] for person in me}) == 2, me
    started = [json.loads(answer) for asked, answer in answers.items() if asked.endswith("/runs")]
    assert len({run["name"] for run in started if "name" in run}) == 2, started
    assert [answer["status"] for answer in started if "status" in answer] == [403], started


def check_ends(app: Running) -> None:
    # An interrupted make fails or is killed by the signal; its command exits cleanly.
    assert app.interrupt() in {0, 2, 130, -signal.SIGINT}, app.printed()
    assert "Traceback" not in app.printed()
    assert app.left_over() == []


@dataclass(frozen=True)
class Project:
    path: Path
    printed: str
    search_path: str

    def run(self, *command: str, **environment: str) -> str:
        return run(command, self.path, PATH=self.search_path, **FOR_MAKE, **environment)


def needs_python(version: str) -> str:
    if not (python := find_python(version)):
        pytest.skip(f"there is no Python {version} on this machine")
    return python

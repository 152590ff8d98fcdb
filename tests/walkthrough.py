"""Helpers that run commands of the documentation with real installs."""

import os
import re
import shutil
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from template import ROOT, tracked_files

from .baking import BIN, find_python, run


@cache
def for_make() -> dict[str, str]:
    """Return a variable that selects the Python of the default image."""
    return {"PYTHON": find_python("3.13") or sys.executable}


def code_blocks(readme: Path, heading: str, language: str) -> list[str]:
    """Return the code blocks below a heading."""
    section = readme.read_text("utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    block = rf"^```{language}\b[^\n]*\n(.*?)^```$"
    return re.findall(block, section, re.MULTILINE | re.DOTALL)


def code_block(heading: str, number: int = 0) -> list[str]:
    """Return the commands of a ``sh`` block in README.md, by heading."""
    block = code_blocks(ROOT / "README.md", heading, "sh")[number]
    return [line.partition("  #")[0].strip() for line in block.splitlines()]


def clone(destination: Path) -> Path:
    """Copy the working tree of this repository as in a clone."""
    for path in tracked_files():
        target = destination / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, target)
    commit(destination)
    return destination


def commit(folder: Path) -> None:
    """Commit all files of a folder; create the repository if needed."""
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    run(["git", "init", "--quiet", "--initial-branch=main"], folder)
    run(["git", "add", "--all"], folder)
    run(["git", *identity, "commit", "--quiet", "--allow-empty", "--message=changes"], folder)


def path_with_tools(folder: Path, python: str = f"{sys.base_prefix}/bin/python3") -> str:
    """Return a PATH with ``uv`` and ``uvx`` of the template, and this Python as python3."""
    folder.mkdir()
    for name in ("uv", "uvx"):
        (folder / name).symlink_to(BIN / name)
    (folder / "python3").write_text(f'#!/bin/sh\nexec "{python}" "$@"\n')
    (folder / "python3").chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


@dataclass(frozen=True)
class Project:
    path: Path
    printed: str
    search_path: str

    def run(self, *command: str, **environment: str) -> str:
        return run(command, self.path, PATH=self.search_path, **for_make(), **environment)


def needs_python(version: str) -> str:
    if not (python := find_python(version)):
        pytest.skip(f"there is no Python {version} on this machine")
    return python

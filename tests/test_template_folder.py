"""The unrendered template folder is valid, so that people can work on it in an editor."""

import ast
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from template import ROOT, tracked_files

from .test_house import tool

FOLDER = ROOT / "{{cookiecutter.project_slug}}"
FILES = [path for path in tracked_files() if path.parts[0] == FOLDER.name]
PARSERS: dict[str, Callable[[str], object]] = {
    ".py": ast.parse,
    ".toml": tomllib.loads,
    ".yml": yaml.safe_load,
    ".yaml": yaml.safe_load,
    ".json": json.loads,
}


def kind(path: Path) -> str:
    """Return the extension of a file whose name may be a condition."""
    return Path(re.sub(r"\{%.*?%\}", "", str(path))).suffix


@pytest.mark.parametrize("path", [path for path in FILES if kind(path) in PARSERS], ids=str)
def test_it_parses(path: Path) -> None:
    PARSERS[kind(path)]((ROOT / path).read_text("utf-8"))


@pytest.mark.parametrize("path", [path for path in FILES if kind(path) == ".py"], ids=str)
def test_only_answers_are_filled_in(path: Path) -> None:
    """Not braces that Python means, such as those of a format string."""
    found = re.findall(r"\{\{.*", (ROOT / path).read_text("utf-8"))
    assert [each for each in found if not re.match(r"\{\{ ?cookiecutter\.", each)] == []


def test_it_is_formatted_and_linted() -> None:
    tool("ruff", "format", "--check", "--no-cache", cwd=FOLDER)
    tool("ruff", "check", "--no-cache", cwd=FOLDER)


@pytest.mark.weekly  # `make check` is quicker, and test_readme.py types what is generated
def test_it_is_typed(tmp_path: Path) -> None:
    tool("mypy", f"--cache-dir={tmp_path}", cwd=FOLDER)

"""Tests of the generated files for every answer."""

import ast
import filecmp
import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt
from template import ROOT, copy_template, tracked_files

from .baking import BIN, PROJECT, QUESTIONS, Baker, files_in, run
from .test_prompts import load_hook

# Expected files: those of the template folder, with generated names and without caches.
FILES = {
    re.sub(r"\{%.*?%\}", "", path.relative_to(PROJECT).as_posix())
    for path in tracked_files()
    if path.parts[0] == PROJECT
}
# Syntax of GitHub Actions and Flyte that looks like Jinja.
NOT_JINJA = re.compile(r"\$\{\{.*?\}\}|\{\{\.\w+\}\}")
JINJA = re.compile(r"\{[{%#]|cookiecutter\.")

HOSTILE = [
    "it's \"both\" 'quotes', '''triple''' \"\"\"quotes\"\"\" and back\\slash \\n \\x41 \\",
    "emoji 🚀 👩‍🚀, ünïcödé 漢字, braces { } }} %} #} ${HOME} ${ {",
    "# heading, ``` fence, *stars* | table | [link](http://example.org) <script>alert(1)</script>",
    "- ! tag & anchor * alias % directive @ ` reserved, yaml: value # comment:".ljust(100, "x"),
]
"""Text that is hard to quote in TOML, Python or Markdown."""
VARIANTS: dict[str, list[str]] = {
    **{key: values for key, values in QUESTIONS.items() if isinstance(values, list)},
    "agents": ["yes", "yes", "no", "no"],  # with and without the web UI
    "project_slug": ["a", "z" + "-z" * 14 + "z"],  # the shortest and the longest
    "flyte_project": ["p", "p" * 63],
    "flyte_domain": ["d", "d" * 63],
    "credential_headers": ["", ", ".join(f"X-Header-Number-{number}" for number in range(9))],
    "description": HOSTILE,
    "author": HOSTILE,
}
COMBINATIONS = [
    {key: values[number % len(values)] for key, values in VARIANTS.items()}
    for number in range(max(map(len, VARIANTS.values())))
]
"""Combinations that contain each value at least once."""


def test_every_template_question_has_test_variants() -> None:
    assert VARIANTS.keys() == QUESTIONS.keys()


AGENTS = ("test_agents.py", "docs/agents.md")


def expected_files(answers: dict[str, str]) -> list[str]:
    left_out = set()
    if answers["license"] == "none":
        left_out.add("LICENSE")
    if answers["ci"] != "GitHub Actions":
        left_out |= {".github/workflows/ci.yml", ".github/dependabot.yml"}
    if answers["ci"] != "GitLab CI":
        left_out.add(".gitlab-ci.yml")
    if answers["page"] == "no":
        left_out |= {name for name in FILES if name.startswith(("app/page/", "tests/test_page"))}
    if answers["agents"] == "no":
        left_out |= {name for name in FILES if "agents/" in name or name.endswith(AGENTS)}
    return sorted(FILES - left_out)


@pytest.mark.parametrize("answers", COMBINATIONS, ids=lambda answers: answers["license"])
def test_every_combination_of_answers_generates_valid_files(
    baker: Baker, tmp_path: Path, answers: dict[str, str]
) -> None:
    project = baker(tmp_path, **answers)
    assert files_in(project) == expected_files(answers)
    folders = {folder for folder in project.rglob("*") if folder.is_dir()}
    assert all(any(folder.iterdir()) for folder in folders), "an empty folder"
    for name in files_in(project):
        text = (project / name).read_text("utf-8")
        assert not JINJA.search(NOT_JINJA.sub("", text)), name
        assert text.endswith("\n"), name
        assert not text.endswith("\n\n"), name
        assert "\r" not in text
        assert not re.search(r"[ \t]$", text, re.MULTILINE), f"{name}: blanks at the end of a line"
        parse(name, text)
        if name.startswith(("passthrough/", "local_flyte/")):  # these files are in the wheel
            assert text == (ROOT / PROJECT / name).read_text("utf-8")
    check_answers(project, answers)
    check_names_in_pages(project)
    run([BIN / "ruff", "format", "--check", "--diff", "--no-cache"], project)
    run([BIN / "ruff", "check", "--no-cache"], project)


def parse(name: str, text: str) -> None:
    """Parse a file by extension; raise if it is invalid."""
    match Path(name).suffix:
        case ".py":
            ast.parse(text)
        case ".toml":
            tomllib.loads(text)
        case ".yml" | ".yaml":
            yaml.safe_load(text)
        case ".json":
            json.loads(text)


def test_template_files_are_valid_before_rendering() -> None:
    """Rendering only fills in answers."""
    for path in tracked_files():
        if path.parts[0] == PROJECT:
            text = (ROOT / path).read_text("utf-8")
            parse(re.sub(r"\{%.*?%\}", "", str(path)), text)
            if path.suffix == ".py":  # except braces of Python format strings
                for expression in re.findall(r"\{\{.*", text):
                    assert expression.startswith("{{ cookiecutter."), path


PATH = re.compile(r"`((?:app|docs|local_flyte|passthrough|tests)/[\w./-]+)`")


def check_names_in_pages(project: Path) -> None:
    """Check that pages name only files that exist, or that the reader creates.

    Recipes, which create files, are tried in test_developer_steps.py.
    """
    for page in (*project.glob("*.md"), *project.glob("docs/*.md")):
        text = page.read_text("utf-8").replace("(`tests/conformance`)", "")  # of the template
        created = re.findall(r"In `(\S+)`:$", text, re.MULTILINE)
        for name in {*PATH.findall(text)}.difference(created):
            assert (project / name).exists(), f"{page.name} names {name}"


def check_answers(project: Path, answers: dict[str, str]) -> None:
    """Check that the files contain each answer."""
    pyproject = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))["project"]
    assert pyproject["description"] == answers["description"]
    assert pyproject["authors"] == [{"name": answers["author"]}]
    readme = MarkdownIt().parse((project / "README.md").read_text("utf-8"))
    blocks = [token.content for token in readme if token.type == "code_block"]
    assert f"{answers['description']}\n" in blocks
    expression = {"none": "LicenseRef-Proprietary"}.get(answers["license"], answers["license"])
    assert pyproject["license"] == expression
    if answers["license"] != "none":
        license_text = (project / "LICENSE").read_text("utf-8")
        first = answers["license"].replace("-", " ").split()[0]  # such as "MIT License"
        assert license_text.lstrip().startswith(first)
        has_author = f"\nCopyright (c) {answers['author']}\n" in license_text
        assert has_author == (answers["license"] != "Apache-2.0")
    image = (project / "app" / "image.py").read_text("utf-8")
    assert f'PYTHON = "{answers["python_version"]}"' in image
    settings = (project / "app" / "settings.py").read_text("utf-8")
    assert f'default="{answers["credential_headers"]}"' in settings
    if answers["ci"] == "GitLab CI":
        jobs = yaml.safe_load((project / ".gitlab-ci.yml").read_text("utf-8"))
        assert jobs["check"]["image"] == f"python:{answers['python_version']}"
        targets = re.findall(r"^([\w-]+):", (project / "Makefile").read_text("utf-8"), re.MULTILINE)
        for command in jobs["check"]["script"]:
            assert command.removeprefix("make ") in targets
    if answers["ci"] == "GitHub Actions":
        workflow = yaml.safe_load((project / ".github/workflows/ci.yml").read_text("utf-8"))
        steps = workflow["jobs"]["check"]["steps"]
        assert steps[1]["with"]["python-version"] == answers["python_version"]


def test_caches_and_crlf_do_not_change_generated_project(
    default_project: Path, tmp_path: Path
) -> None:
    """A working copy has caches and, on Windows, other line endings."""
    template = copy_template(tmp_path / "template")
    for folder in ("__pycache__", ".ruff_cache/0", "app/__pycache__", "app/routers/.mypy_cache"):
        cache = template / PROJECT / folder
        cache.mkdir(parents=True)
        (cache / "text that is no UTF-8").write_bytes(b"{{ cookiecutter.nothing }} \xff\n" * 9)
    for path in (template / "hooks").iterdir():
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    project = Baker(template, tmp_path)(tmp_path / "project")
    files = files_in(default_project)
    assert files_in(project) == files
    assert filecmp.cmpfiles(project, default_project, files, shallow=False) == (files, [], [])


def test_generating_again_keeps_added_files(tmp_path: Path) -> None:
    mine = tmp_path / ".github/workflows/mine.yml"
    mine.parent.mkdir(parents=True)
    mine.touch()
    hook = load_hook("post_gen_project.py", ci="none")
    hook.tidy(tmp_path, hook.ANSWERS)
    assert mine.exists()

"""The update path: ``cruft create``, work on the project, a newer template, ``cruft update``."""

import json
import os
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from template import ROOT, copy_template

from .baking import PROJECT, Baker, edit, files_in
from .baking import run as run_in
from .walkthrough import code_block, commit, path_with_tools

ANSWERS = {
    "project_slug": "our-app",
    "description": 'It\'s "ours" \\o/ 🚀 {one brace}',
    "author": "Ada & Bob <team@example.org>",
    "python_version": "3.12",  # not the default, which changes
    "license": "MIT",
    "credential_headers": "X-Api-Key",
}
WITHOUT_CONFIG = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
TEMPLATE = "cookiecutter-flyte-app"
PACKAGE = f"{PROJECT}/app"
RELEASES = tomllib.loads((ROOT / "releases.toml").read_text("utf-8"))


def run(*command: str, cwd: Path, **environment: str) -> str:
    return run_in(cwd=cwd, command=command, **WITHOUT_CONFIG, PYTHONUTF8="1", **environment)


def cruft(*arguments: str, cwd: Path) -> str:
    # There is no `python -m cruft`.
    return run(sys.executable, "-c", "from cruft._cli import app; app()", *arguments, cwd=cwd)


def status(repository: Path) -> list[str]:
    return run("git", "status", "--porcelain", cwd=repository).splitlines()


def earlier(destination: Path) -> None:
    """Write a template to ``destination`` that differs from today's in every possible way.

    Since then, a line was added, another changed and another removed, and a file was added and
    another removed.
    """
    copy_template(destination)
    makefile = destination / PROJECT / "Makefile"
    lines = makefile.read_text("utf-8").splitlines(keepends=True)
    makefile.write_text("".join(["# An old first line\n", *lines[1:-1], "\t@echo old\n"]), "utf-8")
    (destination / PROJECT / ".gitignore").unlink()
    (destination / PROJECT / "old.py").write_text('NAME = "{{ cookiecutter.project_slug }}"\n')
    edit(destination / PACKAGE / "main.py", "    tasks,\n", "")
    edit(destination / PACKAGE / "tasks.py", "@task_env.task\n", "")


def release(commit: str, destination: Path) -> None:
    """Write the template of a release to ``destination``."""
    if run("git", "rev-parse", "--is-shallow-repository", cwd=ROOT).strip() == "true":
        pytest.skip("the commits of releases are not in this shallow clone: git fetch --unshallow")
    destination.mkdir()
    archive = f"git archive {commit} cookiecutter.json hooks '{PROJECT}'"
    run("sh", "-c", f"{archive} | tar --extract --directory '{destination}'", cwd=ROOT)


def create(template: Path, baker: Baker) -> Path:
    """Generate ``our-app`` beside the template, as an owner does."""
    answers = json.dumps(ANSWERS)
    options = ["--no-input", "--config-file", str(baker.config()), "--extra-context", answers]
    cruft("create", str(template), *options, cwd=template.parent)
    return template.parent / "our-app"


def present(template: Path) -> None:
    """Commit the present version, with nothing of the earlier one."""
    run("git", "rm", "-r", "--quiet", ".", cwd=template)
    copy_template(template)
    commit(template)


ADDED = {"app/ours.py": 'OURS = "ours"\n', "docs/notes.md": "# Ours\n"}
EDITED = {
    "app/main.py": (']\n"""The modules', '    ours,\n]\n"""The modules'),
    "app/tasks.py": ("from .image import", "import app.ours\nfrom .image import"),
    "README.md": ("## Add an endpoint\n", "Our own paragraph.\n\n## Add an endpoint\n"),
    "pyproject.toml": ('version = "0.1.0"', 'version = "7.0.0"'),
}
"""Additions and edits of an owner, which do not touch what the template changes."""


def work_on(project: Path, edited: Mapping[str, tuple[str, str]]) -> None:
    """Add and edit files as an owner would."""
    for name, text in ADDED.items():
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(text, "utf-8")
    for name, (old, new) in edited.items():
        edit(project / name, old, new)


@pytest.mark.parametrize(
    "before", ["everything", *(pytest.param(each, marks=pytest.mark.slow) for each in RELEASES)]
)
def test_an_update_brings_the_present_version_and_keeps_what_is_the_owners(
    before: str, baker: Baker, tmp_path: Path
) -> None:
    """From a version in which everything differs, and from each release."""
    template = tmp_path / TEMPLATE
    if before in RELEASES:
        release(RELEASES[before], template)
    else:
        earlier(template)
    commit(template)
    project, edited = create(template, baker), {} if before in RELEASES else EDITED
    work_on(project, edited)
    commit(project)
    present(template)
    said = cruft("update", "--skip-apply-ask", "--refresh-private-variables", cwd=project)

    assert before in RELEASES or "is ready" not in said  # the hook runs in cruft's own folders
    cruft("check", cwd=project)
    fresh = baker(tmp_path / "fresh", **ANSWERS)
    work_on(fresh, edited)
    left = {name for name in files_in(project) if not name.startswith(".git/")}
    assert left - {".cruft.json"} == set(files_in(fresh))
    for name in files_in(fresh):
        assert (project / name).read_bytes() == (fresh / name).read_bytes(), name
    assert not [line for line in status(project) if line.startswith(("U", "AA", "DD"))]


@pytest.mark.slow
def test_the_printed_update_works_and_so_does_a_conflict(baker: Baker, tmp_path: Path) -> None:
    """An owner and the template have changed the same line; uvx fetches cruft."""
    template = tmp_path / TEMPLATE
    earlier(template)
    commit(template)
    project = create(template, baker)
    commit(project)  # git merges within a file whose origin it knows
    makefile = project / "Makefile"
    edit(makefile, "# An old first line\n", "# Our first line\n")
    ours = makefile.read_text("utf-8")
    commit(project)
    present(template)

    (command,) = code_block("Updating a generated project")
    (project / ".venv").mkdir()
    (project / ".venv/.gitignore").write_text("*\n")
    path = path_with_tools(project / ".venv/bin")  # as `make dev` installs uvx
    environment = {"PATH": path, "COOKIECUTTER_CONFIG": str(baker.config())}
    said = run("sh", "-c", command, cwd=project, **environment)

    assert "as clean as possible!" in said
    assert "UU Makefile" in status(project)
    assert makefile.read_text("utf-8").startswith("<<<<<<< ")
    assert "\n>>>>>>> " in makefile.read_text("utf-8")
    generated = (project / "docs" / "operating.md").read_text("utf-8")
    assert f"\n{command}\n" in generated
    assert "as clean as possible!" in generated
    undo = "git reset --hard && git clean --force -d"
    assert f"`{undo}`" in generated
    run("sh", "-c", undo, cwd=project)
    assert makefile.read_text("utf-8") == ours
    assert status(project) == []

"""The update path: ``cruft create``, work on the project, a newer template, ``cruft update``."""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from template import ROOT, copy_template

from .baking import PROJECT, Baker, files_in
from .baking import run as run_in
from .test_owner import cut
from .walkthrough import code_block, path_with_tools

pytestmark = pytest.mark.skipif(os.name == "nt", reason="on Windows, projects are updated in WSL")

ANSWERS = {
    "project_slug": "our-app",
    "description": 'It\'s "ours" \\o/ 🚀 {one brace}',
    "author": "Ada & Bob <team@example.org>",
    "python_version": "3.12",  # not the default, which changes
    "license": "MIT",
    "credential_headers": "X-Api-Key",
}
GIT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
}
PACKAGE = f"{PROJECT}/app"
RELEASES = tomllib.loads((ROOT / "releases.toml").read_text("utf-8"))


def run(*command: str, cwd: Path, **environment: str) -> str:
    return run_in(cwd=cwd, command=command, **GIT, PYTHONUTF8="1", **environment)


def cruft(*arguments: str, cwd: Path) -> str:
    # There is no `python -m cruft`.
    return run(sys.executable, "-c", "from cruft._cli import app; app()", *arguments, cwd=cwd)


@dataclass(frozen=True)
class Repository:
    """A git repository with one branch."""

    path: Path

    def commit(self, message: str) -> None:
        if not (self.path / ".git").exists():
            run("git", "init", "--quiet", "--initial-branch=main", cwd=self.path)
        run("git", "add", "--all", cwd=self.path)
        # May be empty: right after a release nothing has changed.
        run("git", "commit", "--quiet", "--allow-empty", f"--message={message}", cwd=self.path)

    def status(self) -> list[str]:
        return run("git", "status", "--porcelain", cwd=self.path).splitlines()

    def empty(self) -> None:
        """Remove everything but the history."""
        for path in self.path.iterdir():
            if path.name != ".git":
                shutil.rmtree(path) if path.is_dir() else path.unlink()


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
    main = destination / PACKAGE / "main.py"
    cut(main, "    projects,\n")
    tasks = destination / PACKAGE / "tasks.py"
    tasks.write_text(tasks.read_text("utf-8").replace("@task_env.task\n", "", 1), "utf-8")


def release(commit: str, destination: Path) -> None:
    """Write the template of a release to ``destination``."""
    if run("git", "rev-parse", "--is-shallow-repository", cwd=ROOT).strip() == "true":
        pytest.skip("the commits of releases are not in this shallow clone: git fetch --unshallow")
    archive = ["git", "archive", "--format=tar", commit, "cookiecutter.json", "hooks", PROJECT]
    done = subprocess.run(archive, cwd=ROOT, check=True, capture_output=True)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        tar.extractall(destination, filter="data")


def create(template: Repository, baker: Baker) -> Repository:
    """Generate ``our-app`` beside the template, as an owner does."""
    answers = json.dumps(ANSWERS)
    options = ["--no-input", "--config-file", str(baker.config()), "--extra-context", answers]
    cruft("create", str(template.path), *options, cwd=template.path.parent)
    return Repository(template.path.parent / "our-app")


def present(template: Repository) -> None:
    """Commit the present version, with nothing of the earlier one."""
    template.empty()
    copy_template(template.path)
    template.commit("the present version")


@pytest.fixture
def template(tmp_path: Path) -> Repository:
    """An empty repository for the template."""
    repository = Repository(tmp_path / "cookiecutter-flyte-app")
    repository.path.mkdir()
    return repository


ADDED = {"app/ours.py": 'OURS = "ours"\n', "docs/notes.md": "# Ours\n"}
EDITED = {
    "app/main.py": (']\n"""The modules', '    ours,\n]\n"""The modules'),
    "app/tasks.py": ("from .image import", "import app.ours\nfrom .image import"),
    "README.md": ("\n## ", "\nOur own paragraph.\n\n## "),
    "pyproject.toml": ('version = "0.1.0"', 'version = "7.0.0"'),
}
"""Additions and edits of an owner, which do not touch what the template changes."""


def work_on(project: Path, edited: Mapping[str, tuple[str, str]]) -> None:
    """Add and edit files as an owner would."""
    for name, text in ADDED.items():
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(text, "utf-8")
    for name, (old, new) in edited.items():
        text = (project / name).read_text("utf-8")
        assert old in text
        (project / name).write_text(text.replace(old, new, 1), "utf-8")


@pytest.mark.parametrize(
    "before", ["everything", *(pytest.param(each, marks=pytest.mark.slow) for each in RELEASES)]
)
def test_an_update_brings_the_present_version_and_keeps_what_is_the_owners(
    before: str, template: Repository, baker: Baker, tmp_path: Path
) -> None:
    """From a version in which everything differs, and from each release."""
    if before in RELEASES:
        release(RELEASES[before], template.path)
    else:
        earlier(template.path)
    template.commit(before)
    project, edited = create(template, baker), {} if before in RELEASES else EDITED
    work_on(project.path, edited)
    project.commit("our app")
    present(template)
    said = cruft("update", "--skip-apply-ask", "--refresh-private-variables", cwd=project.path)

    assert before in RELEASES or "is ready" not in said  # the hook runs in cruft's own folders
    cruft("check", cwd=project.path)
    fresh = baker(tmp_path / "fresh", **ANSWERS)
    work_on(fresh, edited)
    left = {name for name in files_in(project.path) if not name.startswith(".git/")}
    assert left - {".cruft.json"} == set(files_in(fresh))
    for name in files_in(fresh):
        assert (project.path / name).read_bytes() == (fresh / name).read_bytes(), name
    assert not [line for line in project.status() if line.startswith(("U", "AA", "DD"))]


@pytest.mark.slow
def test_the_printed_update_works_and_so_does_a_conflict(
    template: Repository, baker: Baker, tmp_path: Path
) -> None:
    """An owner and the template have changed the same line; uvx fetches cruft."""
    earlier(template.path)
    template.commit("an earlier version")
    project = create(template, baker)
    project.commit("as it was generated")  # git merges within a file whose origin it knows
    makefile = project.path / "Makefile"
    ours = makefile.read_text("utf-8").replace("# An old first line\n", "# Our first line\n")
    makefile.write_text(ours, "utf-8")
    project.commit("our app")
    present(template)

    (command,) = code_block("Updating a generated project", 1)
    (project.path / ".venv").mkdir()
    (project.path / ".venv/.gitignore").write_text("*\n")
    path = path_with_tools(project.path / ".venv/bin")  # as `make dev` installs uvx
    environment = {"PATH": path, "COOKIECUTTER_CONFIG": str(baker.config())}
    said = run("sh", "-c", command, cwd=project.path, **environment)

    assert "as clean as possible!" in said
    assert "UU Makefile" in project.status()
    assert makefile.read_text("utf-8").startswith("<<<<<<< ")
    assert "\n>>>>>>> " in makefile.read_text("utf-8")
    generated = (project.path / "docs" / "operating.md").read_text("utf-8")
    assert f"\n{command}\n" in generated
    assert "as clean as possible!" in generated
    undo = "git reset --hard && git clean --force -d"
    assert f"`{undo}`" in generated
    run("sh", "-c", undo, cwd=project.path)
    assert makefile.read_text("utf-8") == ours
    assert project.status() == []

"""The update path: ``cruft create``, work on the project, a newer template, ``cruft update``."""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from template import ROOT, copy_template

from .baking import PROJECT, Baker, files_in
from .test_owner import cut, put
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


def run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **GIT, "PYTHONUTF8": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}"
    return done.stdout


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


RELEASES = tomllib.loads((ROOT / "releases.toml").read_text("utf-8"))


def release(commit: str, destination: Path) -> None:
    """Write the template of a release to ``destination``."""
    archive = subprocess.run(
        ["git", "archive", "--format=tar", commit, "cookiecutter.json", "hooks", PROJECT],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(destination, filter="data")


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
    cut(main, '    "projects",\n')
    tasks = destination / PACKAGE / "tasks.py"
    tasks.write_text(tasks.read_text("utf-8").replace("@task_env.task\n", "", 1), "utf-8")


def work_on(project: Path) -> dict[str, str]:
    """Edit the project as an owner would; return the texts that must survive an update."""
    package = project / "app"
    main = package / "main.py"
    added, end = '    "ours",\n', ']\n"""The modules'
    put(main, end, added)
    with (package / "tasks.py").open("a", encoding="utf-8") as tasks:
        tasks.write("\n\n# Ours\n")
    readme = project / "README.md"
    readme.write_text(readme.read_text("utf-8") + "\nOur own paragraph.\n", "utf-8")
    (package / "ours.py").write_text('OURS = "ours"\n', "utf-8")
    pyproject = project / "pyproject.toml"
    text = pyproject.read_text("utf-8")
    pyproject.write_text(text.replace('version = "0.1.0"', 'version = "7.0.0"'), "utf-8")
    return {
        "app/main.py": added + end,
        "app/tasks.py": "\n# Ours\n",
        "README.md": "\nOur own paragraph.\n",
        "app/ours.py": 'OURS = "ours"\n',
        "pyproject.toml": 'version = "7.0.0"\n',
    }


def create(template: Repository, baker: Baker) -> Repository:
    """Generate ``our-app`` beside the template, as an owner does."""
    answers = json.dumps(ANSWERS)
    options = ["--no-input", "--config-file", str(baker.config()), "--extra-context", answers]
    cruft("create", str(template.path), *options, cwd=template.path.parent)
    return Repository(template.path.parent / "our-app")


def test_an_update_from_a_version_that_differs_in_every_way(baker: Baker, tmp_path: Path) -> None:
    template = Repository(tmp_path / "cookiecutter-flyte-app")
    template.path.mkdir()
    earlier(template.path)
    template.commit("an earlier version")
    project = create(template, baker)
    kept = work_on(project.path)
    project.commit("our app")

    template.empty()
    copy_template(template.path)
    template.commit("the present version")
    said = cruft("update", "--skip-apply-ask", "--refresh-private-variables", cwd=project.path)

    assert "Good work!" in said or "already up to date" in said
    assert "is ready" not in said  # the hook runs in cruft's own folders
    assert not [name for name in files_in(project.path) if name.endswith((".rej", ".orig"))]
    assert not [line for line in project.status() if line.startswith(("U", "AA", "DD"))]
    for name, text in kept.items():
        assert text in (project.path / name).read_text("utf-8"), name
    cruft("check", cwd=project.path)
    compare(baker(tmp_path / "fresh", **ANSWERS), project.path, kept)


def compare(fresh: Path, updated: Path, kept: dict[str, str]) -> None:
    """Require that an updated project is the current template's, except for the owner's edits."""
    inside = {name for name in files_in(updated) if not name.startswith(".git/")}
    assert inside - {".cruft.json", "app/ours.py"} == set(files_in(fresh))
    for name in files_in(fresh):
        text = (updated / name).read_text("utf-8")
        if name == "pyproject.toml":
            text = text.replace('version = "7.0.0"', 'version = "0.1.0"')
        elif name == "app/main.py":
            text = text.replace('    "ours",\n', "")
        elif name == "app/tasks.py":
            text = text.removesuffix("\n\n# Ours\n")
        elif name == "README.md":
            text = text.removesuffix("\nOur own paragraph.\n")
        assert text == (fresh / name).read_text("utf-8"), name


@pytest.mark.slow
@pytest.mark.parametrize("base", ["known", pytest.param("unknown", marks=pytest.mark.weekly)])
def test_the_printed_update_works_and_so_does_a_conflict(
    base: str, baker: Baker, tmp_path: Path
) -> None:
    """An owner and the template have changed the same line; uvx fetches cruft.

    git merges within the file if the project's history contains the generated version of it.
    """
    template = Repository(tmp_path / "cookiecutter-flyte-app")
    template.path.mkdir()
    earlier(template.path)
    template.commit("an earlier version")
    project = create(template, baker)
    if base == "known":
        project.commit("as it was generated")
    makefile = project.path / "Makefile"
    ours = makefile.read_text("utf-8").replace("# An old first line\n", "# Our first line\n")
    makefile.write_text(ours, "utf-8")
    project.commit("our app")
    template.empty()
    copy_template(template.path)
    template.commit("the present version")

    (command,) = code_block("Updating a generated project", 1)
    environment = {
        "PATH": path_with_tools(tmp_path / "bin"),
        "COOKIECUTTER_CONFIG": str(baker.config()),
    }
    said = run("sh", "-c", command, cwd=project.path, **environment)

    assert "as clean as possible!" in said
    if base == "known":
        assert "UU Makefile" in project.status()
        assert makefile.read_text("utf-8").startswith("<<<<<<< ")
        assert "\n>>>>>>> " in makefile.read_text("utf-8")
    else:
        assert "# Shortcuts" in (project.path / "Makefile.rej").read_text("utf-8")
    generated = (project.path / "docs" / "operating.md").read_text("utf-8")
    assert f"\n{command}\n" in generated
    assert "as clean as possible!" in generated
    undo = "git reset --hard && git clean --force -d"
    assert f"`{undo}`" in generated
    run("sh", "-c", undo, cwd=project.path)
    assert makefile.read_text("utf-8") == ours
    assert project.status() == []


@pytest.mark.slow
@pytest.mark.parametrize("version", RELEASES)
def test_an_update_from_a_release(version: str, baker: Baker, tmp_path: Path) -> None:
    """Owners' additions stay; files that they have not edited match the current template."""
    if run("git", "rev-parse", "--is-shallow-repository", cwd=ROOT).strip() == "true":
        pytest.skip("the commits of releases are not in this shallow clone: git fetch --unshallow")
    template = Repository(tmp_path / "cookiecutter-flyte-app")
    template.path.mkdir()
    release(RELEASES[version], template.path)
    template.commit(version)
    project = create(template, baker)
    ours = {"app/ours.py": 'OURS = "ours"\n', "docs/notes.md": "# Ours\n"}
    for name, text in ours.items():
        (project.path / name).parent.mkdir(exist_ok=True)
        (project.path / name).write_text(text, "utf-8")
    project.commit("our app")

    template.empty()
    copy_template(template.path)
    template.commit("the present version")
    cruft("update", "--skip-apply-ask", "--refresh-private-variables", cwd=project.path)

    fresh = baker(tmp_path / "fresh", **ANSWERS)
    inside = {name for name in files_in(project.path) if not name.startswith(".git/")}
    assert inside - {".cruft.json", *ours} == set(files_in(fresh))
    for name in files_in(fresh):
        assert (project.path / name).read_bytes() == (fresh / name).read_bytes(), name
    for name, text in ours.items():
        assert (project.path / name).read_text("utf-8") == text


@pytest.mark.slow
def test_without_a_change_there_is_nothing_to_update(baker: Baker, tmp_path: Path) -> None:
    template = Repository(shutil.copytree(baker.template, tmp_path / "template"))
    template.commit("the present version")
    options = ["--no-input", "--config-file", str(baker.config())]
    cruft("create", str(template.path), *options, cwd=tmp_path)
    project = Repository(tmp_path / "my-flyte-app")
    project.commit("our app")
    assert "already up to date" in cruft("update", "--skip-apply-ask", cwd=project.path)
    assert project.status() == []
    assert "diff --git" not in cruft("diff", cwd=project.path)

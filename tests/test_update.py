"""Tests of updates: ``cruft create``, edits, a newer template, ``cruft update``."""

import json
import os
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from template import ROOT, copy_template

from .baking import PROJECT, Baker, edit, ended, files_in
from .baking import run as run_in
from .walkthrough import code_blocks, commit, for_make, path_with_tools

ANSWERS = {
    "project_slug": "our-app",
    "description": 'It\'s "ours" \\o/ 🚀 {one brace}',
    "author": "Ada & Bob <team@example.org>",
    "python_version": "3.12",  # a fixed name, because the default changes
    "license": "MIT",
    "credential_headers": "X-Api-Key",
}
WITHOUT_CONFIG = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
IDENTITY = {
    f"GIT_{role}_{key}": "ada" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")
}
TEMPLATE = "cookiecutter-flyte-app"
PACKAGE = f"{PROJECT}/app"
NEEDED = '    "msgpack>=1.1,<2",\n'
RELEASES = tomllib.loads((ROOT / "releases.toml").read_text("utf-8"))
*EARLIER, NEWEST = RELEASES


def run(*command: str, cwd: Path, **environment: str) -> str:
    return run_in(cwd=cwd, command=command, **WITHOUT_CONFIG, PYTHONUTF8="1", **environment)


def make(*targets: str, cwd: Path, **environment: str) -> str:
    return run("make", *targets, cwd=cwd, **for_make(), **environment)


def cruft(*arguments: str, cwd: Path) -> str:
    # There is no `python -m cruft`.
    return run(sys.executable, "-c", "from cruft._cli import app; app()", *arguments, cwd=cwd)


def status(repository: Path) -> list[str]:
    return run("git", "status", "--porcelain", cwd=repository).splitlines()


def earlier(destination: Path) -> None:
    """Write an earlier template to ``destination``, which differs in every possible way.

    Compared with it, the present template has an added, a changed and a removed line, an added
    file and a removed file.
    """
    copy_template(destination)
    makefile = destination / PROJECT / "Makefile"
    lines = makefile.read_text("utf-8").splitlines(keepends=True)
    old = ["# An old first line\n", *lines[1:], "\nold:\n\t@echo old\n"]
    makefile.write_text("".join(old), "utf-8")
    (destination / PROJECT / ".gitignore").unlink()
    (destination / PROJECT / "old.py").write_text('NAME = "{{ cookiecutter.project_slug }}"\n')
    edit(destination / PACKAGE / "main.py", "    tasks,\n", "")
    edit(destination / PACKAGE / "tasks.py", "@task_env.task\n", "")
    edit(destination / PROJECT / "pyproject.toml", NEEDED, "")


def create(template: Path, baker: Baker, *options: str) -> Path:
    """Generate ``our-app`` beside the template, like a developer."""
    answers = ["--no-input", "--extra-context", json.dumps(ANSWERS)]
    config = ["--config-file", str(baker.config())]
    cruft("create", str(template), *answers, *config, *options, cwd=template.parent)
    return template.parent / "our-app"


def create_earlier(template: Path, baker: Baker) -> Path:
    """Commit an earlier template, and generate ``our-app`` from it."""
    earlier(template)
    commit(template)
    return create(template, baker)


def create_release(release: str, template: Path, baker: Baker) -> Path:
    """Generate ``our-app`` from a full clone with ``--checkout``, as documented."""
    if run("git", "rev-parse", "--is-shallow-repository", cwd=ROOT).strip() == "true":
        pytest.skip("the commits of releases are not in this shallow clone: git fetch --unshallow")
    run("git", "clone", "--quiet", str(ROOT), str(template), cwd=template.parent)
    return create(template, baker, "--checkout", RELEASES[release])


def update(project: Path) -> str:
    return cruft("update", "--skip-apply-ask", "--refresh-private-variables", cwd=project)


def present(template: Path) -> None:
    """Commit the present version, without files of the earlier version."""
    run("git", "switch", "--quiet", "--force-create", "main", cwd=template)
    run("git", "rm", "-r", "--quiet", ".", cwd=template)
    copy_template(template)
    commit(template)


ADDED = {"routers/ours.py": '"""Ours."""\n', "notes.md": "# Ours\n"}
EDITED = {
    "app/main.py": (']\n"""The modules', '    ours,\n]\n"""The modules'),
    "app/tasks.py": ("from .image import", "import app.routers.ours\nfrom .image import"),
    "README.md": ("make test\nmake check\n", "make test\nmake check\nmake ours\n"),
    "pyproject.toml": ('version = "0.1.0"', 'version = "7.0.0"'),
    "tests/test_guarantees.py": (
        "# noqa: F403 - the tests\n",
        "# noqa: F403 - the tests\n\nOURS = 1\n",
    ),
}
"""Additions and edits of a developer in lines that the template does not change."""
RENAMED = {"tests/test_guarantees.py": "tests/test_promises.py"}
"""Names of edited files in version 3."""
FILES_MOVE = {
    "1.0.0": {
        "our_app/app.py": ("health, me,", "health, me, ours,"),
        "our_app/settings.py": ("    allow_anonymous", "    ours: int = 0\n    allow_anonymous"),
        "our_app/tasks.py": ("from .image import", "import our_app.ours\nfrom .image import"),
        "tests/test_endpoints.py": ("\nimport ", "\nimport ours\nimport "),
        "README.md": ("## Check it\n", "## Ours\n\nOur section.\n\n## Check it\n"),
        "pyproject.toml": ('version = "0.1.0"', 'version = "7.0.0"'),
    }
}
"""Edits for releases before files were moved. Other edits must be merged by hand."""


def work_on(project: Path, edited: Mapping[str, tuple[str, str]], package: str = "app") -> None:
    """Add files to the package, and edit files, like a developer."""
    for name, text in ADDED.items():
        (project / package / name).parent.mkdir(exist_ok=True, parents=True)
        (project / package / name).write_text(text, "utf-8")
    for name, (old, new) in edited.items():
        present = (project / name).exists()
        edit(project / (name if present else RENAMED[name]), old, new)


@pytest.mark.slow
def test_make_update_keeps_changes_of_developer(baker: Baker, tmp_path: Path) -> None:
    """The earlier version differs in every possible way.

    Git leaves an edited file that the template has deleted, without a conflict or a .rej file.
    """
    template = tmp_path / TEMPLATE
    project = create_earlier(template, baker)
    work_on(project, EDITED | {"old.py": ("NAME", "OURS")})
    commit(project)
    present(template)
    output = make("update", cwd=project, COOKIECUTTER_CONFIG=str(baker.config()))

    assert "is ready" not in output  # the hook runs in temporary folders of cruft
    problem = "old.py: the template has deleted it, but you have changed it: "
    assert output.count("the template has deleted") == output.count(problem) == 1
    assert "OURS" in (project / "old.py").read_text("utf-8")
    (project / "old.py").unlink()
    assert not list(project.rglob("*.rej"))
    check_updated(project, baker, EDITED)


def check_updated(
    project: Path, baker: Baker, edited: Mapping[str, tuple[str, str]], package: str = "app"
) -> None:
    """Compare a project with one of the present version and the same edits."""
    cruft("check", cwd=project)
    fresh = baker(project.parent / "fresh", **ANSWERS)
    work_on(fresh, edited, package)
    left = {name for name in files_in(project) if not name.startswith((".git/", ".venv/"))}
    assert left - {".cruft.json"} == set(files_in(fresh))
    for name in files_in(fresh):
        assert (project / name).read_bytes() == (fresh / name).read_bytes(), name
    assert not [line for line in status(project) if line.startswith(("U", "AA", "DD"))]


@pytest.mark.slow
@pytest.mark.parametrize(
    "release", [NEWEST, *(pytest.param(release, marks=pytest.mark.weekly) for release in EARLIER)]
)
def test_edited_project_of_earlier_release_can_be_updated(
    release: str, baker: Baker, tmp_path: Path
) -> None:
    template = tmp_path / TEMPLATE
    project = create_release(release, template, baker)
    moving = FILES_MOVE.get(release, {})
    package = "our_app" if moving else "app"
    work_on(project, moving or EDITED, package)
    commit(project)
    present(template)
    if moving:
        (project / ".venv").mkdir()
        (project / ".venv/.gitignore").write_text("*\n")
        path_with_tools(project / ".venv/bin")  # with uvx, which fetches cruft
        (steps,) = code_blocks(ROOT / "CHANGELOG.md", "2.0.0", "sh")
        *commands, apply = steps.replace("my_flyte_app", "our_app").splitlines()
        config = {"COOKIECUTTER_CONFIG": str(baker.config())}
        run("sh", "-ec", "\n".join(commands), cwd=project, **IDENTITY, **config)
        assert status(project) == []
        ended(["sh", "-c", apply], project)
        assert not list(project.rglob("*.rej"))
        for name in ("README.md", "pyproject.toml"):  # merged, or between <<<<<<< and >>>>>>>
            assert moving[name][1].splitlines()[0] in (project / name).read_text("utf-8")
            run("git", "checkout", "HEAD", name, cwd=project)
    else:
        update(project)
        for name, old in RENAMED.items():  # step 1 of 4.0.0 in CHANGELOG.md
            if (project / old).exists():
                (project / old).unlink()
                edit(project / name, *EDITED[name])
    check_updated(project, baker, {} if moving else EDITED, package)


@pytest.mark.weekly
@pytest.mark.slow
def test_make_update_reports_conflicts_and_updates_lock(baker: Baker, tmp_path: Path) -> None:
    """A developer and the template change the same line; the template needs a new package."""
    template = tmp_path / TEMPLATE
    project = create_earlier(template, baker)
    commit(project)  # git merges within a file whose origin it knows
    make("uv.lock", cwd=project)
    makefile = project / "Makefile"
    edit(makefile, "# An old first line\n", "# Our first line\n")
    ours = makefile.read_text("utf-8")
    commit(project)
    present(template)
    output = make("update", cwd=project, COOKIECUTTER_CONFIG=str(baker.config()))

    assert "\nMakefile: merge it by hand, at <<<<<<<\n" in output
    assert output.splitlines()[-1].startswith(f"Read CHANGELOG.md of {template}. Then: make ")
    assert makefile.read_text("utf-8").startswith("<<<<<<< ")
    run("git", "checkout", "--theirs", "Makefile", cwd=project)
    uv = str(project / ".venv/bin/uv")
    assert ended([uv, "lock", "--check"], project).returncode != 0
    assert "so does uv.lock: commit it" in make(".venv/installed", cwd=project)
    run(uv, "lock", "--check", cwd=project)
    assert (project / ".venv/bin/pytest").exists()
    edit(project / "pyproject.toml", NEEDED, "")
    make("lock", cwd=project)
    run(uv, "lock", "--check", cwd=project)

    undo = "git reset --hard && git clean --force -d"
    assert f"`{undo}`" in (project / "docs/operating.md").read_text("utf-8")
    run("sh", "-c", undo, cwd=project)
    assert makefile.read_text("utf-8") == ours
    assert status(project) == []

    edit(template / "hooks/pre_gen_project.py", "{1,100}(?", "{1,5}(?")
    commit(template)
    refused = ended(["make", "update"], project, COOKIECUTTER_CONFIG=str(baker.config()))
    assert refused.returncode != 0
    assert "\n  description: " in refused.stdout
    # Cookiecutter and cruft each print a traceback below the hook's message.
    assert "Traceback" not in refused.stdout
    assert len(refused.stdout.splitlines()) < 25
    assert status(project) == []

"""The steps in README.md, "Generate your own"."""

import os
import re
import subprocess
import sys

import pytest

from .walkthrough import Project, clone, code_block, commit, path_with_tools

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that is generated and committed as the README shows."""
    folder = tmp_path_factory.mktemp("readme")
    search_path = path_with_tools(folder / "bin")
    config = folder / "cookiecutter.yaml"
    config.write_text(f"cookiecutters_dir: {folder}/clones\nreplay_dir: {folder}/replay\n")
    generate, enter, *_ = code_block("Generate your own")
    template = clone(folder / "cookiecutter-flyte-app")
    (template / ".venv").symlink_to(sys.prefix)  # as after `make demo`
    done = subprocess.run(
        ["sh", "-c", generate],
        cwd=template,
        env={**os.environ, "PATH": search_path, "COOKIECUTTER_CONFIG": str(config)},
        input="\n" * 20,  # Enter takes the default
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    path = (template / enter.removeprefix("cd ")).resolve()
    commit(path)
    return Project(path, done.stdout, search_path)


@pytest.fixture(scope="module")
def installed(generated: Project) -> Project:
    """The same, set up by make."""
    generated.run("make", ".venv/installed")
    return generated


def test_the_next_steps_printed_are_those_of_the_readme(generated: Project) -> None:
    steps = generated.printed.partition("is ready. Next:")[2]
    printed = re.findall(r"^    (\S.*?)(?:  +#.*)?$", steps, re.MULTILINE)
    git = "git init && git add --all && git commit -m 'Generate the project'"
    assert printed == ["cd ../my-flyte-app", "make dev", "make test", "make deploy", git]
    assert set(code_block("Generate your own")[1:]) <= set(printed)


def test_make_test_passes_in_the_generated_project_and_git_has_nothing_to_add(
    installed: Project,
) -> None:
    said = installed.run("make", "test")
    assert re.search(r"^=+ \d{2,} passed[^a-z]*( \d+ skipped[^a-z]*)? in .* =+$", said, re.M), said
    assert installed.run("git", "status", "--porcelain") == ""


@pytest.mark.weekly
def test_make_check_passes(installed: Project) -> None:
    """In its own environment. `make check` here, and test_owner.py, check the same files daily."""
    installed.run("make", "check")


@pytest.mark.weekly
def test_the_lock_file_that_is_made_is_the_one_make_uses(installed: Project) -> None:
    """Runs last, because it installs the versions in the lock file."""
    installed.run("uv", "lock")
    # A lock that does not fit pyproject.toml fails, which shows that make reads it.
    pyproject = installed.path / "pyproject.toml"
    fitting = pyproject.read_text("utf-8")
    pyproject.write_text(fitting.replace("httpx>=0.28", "httpx>=0.28,!=0.28.7"), "utf-8")
    with pytest.raises(AssertionError, match="lock"):
        installed.run("make", ".venv/installed")
    pyproject.write_text(fitting, "utf-8")
    installed.run("make", ".venv/installed")

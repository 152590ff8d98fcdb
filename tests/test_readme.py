"""Tests of the commands in README.md and in the README.md of a project."""

import re
import sys
from pathlib import Path

import pytest
import yaml

from .baking import Baker, run
from .walkthrough import Project, clone, code_block, code_blocks, commit, path_with_tools

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clone of this repository, as after ``make demo``."""
    template = clone(tmp_path_factory.mktemp("readme") / "cookiecutter-flyte-app")
    (template / ".venv").symlink_to(sys.prefix)
    return template


@pytest.fixture(scope="module")
def generated(template: Path, baker: Baker) -> Project:
    """Return a project that is generated, committed and set up as documented."""
    generate, enter, *_ = code_block("Generate your own")
    search_path = path_with_tools(template.parent / "bin")
    environment = {"PATH": search_path, "COOKIECUTTER_CONFIG": str(baker.config())}
    with_defaults = f"yes '' | {generate}"  # Enter takes the default
    printed = run(["sh", "-c", with_defaults], template, **environment)
    path = (template / enter.removeprefix("cd ")).resolve()
    commit(path)
    project = Project(path, printed, search_path)
    project.run("make", ".venv/installed")
    return project


def test_printed_next_steps_match_readme(generated: Project) -> None:
    steps = generated.printed.partition("is ready. Next:")[2]
    printed = re.findall(r"^    (\S.*?)(?:  +#.*)?$", steps, re.MULTILINE)
    git = "git init && git add --all && git commit -m 'Generate the project'"
    assert printed == ["cd ../my-flyte-app", "make dev", "make test", "make deploy", git]
    assert set(code_block("Generate your own")[1:]) <= set(printed)


def test_make_test_leaves_clean_git_status(generated: Project) -> None:
    output = generated.run("make", "test")
    passed = r"^=+ \d{2,} passed[^a-z]*( \d+ skipped[^a-z]*)? in .* =+$"
    assert re.search(passed, output, re.MULTILINE), output
    assert generated.run("git", "status", "--porcelain") == ""


def test_generating_with_no_input_shows_no_prompts(template: Path, baker: Baker) -> None:
    """There is no terminal, and the project has no web UI."""
    (command,) = code_block("Generate your own", 1)
    run(["sh", "-c", command], template, COOKIECUTTER_CONFIG=str(baker.config()))
    assert (template / "../our-app/app/main.py").exists()
    assert not (template / "../our-app/app/page").exists()


def test_readme_command_creates_config_with_prompt_answers(generated: Project) -> None:
    (create, *_) = code_blocks(generated.path / "README.md", "Deploy it", "sh")
    generated.run("sh", "-ec", create)
    config = yaml.safe_load((generated.path / ".flyte/config.yaml").read_text("utf-8"))
    assert config["admin"]["endpoint"] == "dns:///flyte.example.com"
    assert config["task"].items() >= {"project": "flytesnacks", "domain": "development"}.items()
    assert generated.run("git", "status", "--porcelain") == ""


@pytest.mark.weekly
def test_documented_rename_passes_make_check(generated: Project) -> None:
    """This test runs last, because it renames the app."""
    (rename,) = re.findall("`(git grep .*)`", (generated.path / "README.md").read_text("utf-8"))
    generated.run("sh", "-ec", rename)
    assert '"new-name"' in (generated.path / "app/main.py").read_text("utf-8")
    generated.run("make", "check")

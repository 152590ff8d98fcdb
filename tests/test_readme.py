"""The steps in README.md, "Generate your own"."""

import re
import sys

import pytest

from .baking import Baker, run
from .walkthrough import Project, clone, code_block, commit, path_with_tools

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def generated(baker: Baker, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that is generated and committed as the README shows, and set up by make."""
    folder = tmp_path_factory.mktemp("readme")
    generate, enter, *_ = code_block("Generate your own")
    template = clone(folder / "cookiecutter-flyte-app")
    (template / ".venv").symlink_to(sys.prefix)  # as after `make demo`
    search_path = path_with_tools(folder / "bin")
    environment = {"PATH": search_path, "COOKIECUTTER_CONFIG": str(baker.config())}
    with_defaults = f"yes '' | {generate}"  # Enter takes the default
    printed = run(["sh", "-c", with_defaults], template, **environment)
    path = (template / enter.removeprefix("cd ")).resolve()
    commit(path)
    project = Project(path, printed, search_path)
    project.run("make", ".venv/installed")
    return project


def test_the_next_steps_printed_are_those_of_the_readme(generated: Project) -> None:
    steps = generated.printed.partition("is ready. Next:")[2]
    printed = re.findall(r"^    (\S.*?)(?:  +#.*)?$", steps, re.MULTILINE)
    git = "git init && git add --all && git commit -m 'Generate the project'"
    assert printed == ["cd ../my-flyte-app", "make dev", "make test", "make deploy", git]
    assert set(code_block("Generate your own")[1:]) <= set(printed)


def test_make_test_passes_in_the_generated_project_and_git_has_nothing_to_add(
    generated: Project,
) -> None:
    said = generated.run("make", "test")
    assert re.search(r"^=+ \d{2,} passed[^a-z]*( \d+ skipped[^a-z]*)? in .* =+$", said, re.M), said
    assert generated.run("git", "status", "--porcelain") == ""

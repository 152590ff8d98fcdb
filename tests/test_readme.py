"""The steps in README.md, "Generate your own"."""

import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from local_flyte.__main__ import PORT

from .baking import Baker, run
from .long_running import running
from .walkthrough import (
    Project,
    check_ends,
    check_two_people,
    clone,
    code_block,
    commit,
    devcontainer,
    for_make,
    path_with_tools,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that is generated and committed as the README shows."""
    folder = tmp_path_factory.mktemp("readme")
    search_path = path_with_tools(folder / "bin")
    home = folder / "home"
    home.mkdir()
    generate, enter, *_ = code_block("Generate your own")
    template = clone(folder / "cookiecutter-flyte-app")
    done = subprocess.run(
        ["sh", "-c", generate],
        cwd=template,
        env={**os.environ, "PATH": search_path, "COOKIECUTTER_CONFIG": str(config(home))},
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
    """The same, set up as in a devcontainer, by make."""
    generated.run(*shlex.split(devcontainer(generated.path)["postCreateCommand"]))
    return generated


def config(home: Path) -> Path:
    path = home / "cookiecutter.yaml"
    path.write_text(f"cookiecutters_dir: {home / 'clones'}\nreplay_dir: {home / 'replay'}\n")
    return path


def test_the_next_steps_printed_are_those_of_the_readme(generated: Project) -> None:
    steps = generated.printed.partition("is ready. Next:")[2]
    printed = re.findall(r"^    (\S.*?)(?:  +#.*)?$", steps, re.MULTILINE)
    git = "git init && git add --all && git commit -m 'Generate the project'"
    assert printed == ["cd ../my-flyte-app", "make dev", "make test", "make deploy", git]
    enter, *told = code_block("Generate your own")[1:]
    assert Path(enter.removeprefix("cd ")).name == "my-flyte-app"
    assert set(told) <= set(printed)


def test_make_test_passes_in_the_generated_project_and_covers_its_app(
    installed: Project, record_property: Callable[[str, object], None]
) -> None:
    installed.run("uv", "pip", "install", "--quiet", "--python", ".venv", "pytest-cov")
    said = run(
        ["make", "test"],
        installed.path,
        PATH=installed.search_path,
        PYTEST_ADDOPTS="--cov=app --cov-report=term-missing:skip-covered",
        COVERAGE_FILE=str(installed.path.parent / "coverage"),
        COVERAGE_CORE="sysmon",  # from Python 3.12 on; adds almost no time
        **for_make(),
    )
    total = re.search(r"^TOTAL .* (\d+)%$", said, re.MULTILINE)
    assert total, said
    record_property("summary", said[said.rindex("Name ") : total.end()])
    assert int(total[1]) >= 90
    assert re.search(r"^=+ .*\b\d{2,} passed\b.* =+$", said, re.MULTILINE), said
    assert "failed" not in said
    assert "error" not in said.splitlines()[-1]


def test_make_check_passes_on_untouched_output(installed: Project) -> None:
    installed.run("make", "check")


def test_the_formatter_has_nothing_to_change_and_git_nothing_to_add(installed: Project) -> None:
    installed.run("make", "format")
    assert installed.run("git", "status", "--porcelain") == ""


def test_make_dev_shows_two_people_and_leaves_nothing_running(installed: Project) -> None:
    command = shlex.split(devcontainer(installed.path)["postAttachCommand"])
    assert command == ["make", "dev"]
    assert devcontainer(installed.path)["forwardPorts"] == [PORT]
    with running(command, installed.path, PATH=installed.search_path, **for_make()) as app:
        check_two_people(app)
        check_ends(app)


DEPLOY = """
import subprocess, sys
from pathlib import Path
from local_flyte import LocalFlyte

with LocalFlyte() as local_flyte:
    config = local_flyte.config_file("alice")
    done = subprocess.run(
        ["make", "deploy"], env={**__import__("os").environ, "FLYTECTL_CONFIG": str(config)}
    )
    methods = {call.method for call in local_flyte.calls}
    assert {"Create", "DeployTask"} <= methods, methods
sys.exit(done.returncode)
"""


def test_make_deploy_deploys_the_app_and_its_tasks(installed: Project) -> None:
    installed.run(".venv/bin/python", "-c", DEPLOY)


def test_other_answers_pass_a_dry_run_of_flyte_deploy(
    installed: Project, baker: Baker, tmp_path: Path
) -> None:
    others = baker(tmp_path / "others", page="no", credential_headers="X-Api-Key, X-Tenant")
    hostile = 'It\'s "hostile" \\n 🚀 <b>'
    # A dry run makes no calls but needs an endpoint.
    config = tmp_path / "flyte.yaml"
    config.write_text("admin: {endpoint: 'dns:///127.0.0.1:1'}\n")
    for project in (others, baker(tmp_path / "hostile", description=hostile, project_slug="a")):
        command = [str(installed.path / ".venv/bin/flyte"), "deploy", "--dry-run"]
        # Before the environment's own, which has a project of the same name.
        variables = {"PYTHONPATH": str(project), "FLYTECTL_CONFIG": str(config)}
        run([*command, "deployment.py", "app_env"], project, **variables)


@pytest.mark.weekly
def test_the_lock_file_that_is_made_is_the_one_make_uses(installed: Project) -> None:
    """Runs last, because it installs the versions in the lock file."""
    run(["uv", "lock"], installed.path, PATH=installed.search_path)
    # A lock that does not fit pyproject.toml fails, which shows that make reads it.
    pyproject = installed.path / "pyproject.toml"
    fitting = pyproject.read_text("utf-8")
    pyproject.write_text(fitting.replace("httpx>=0.28", "httpx>=0.28,!=0.28.7"), "utf-8")
    with pytest.raises(AssertionError, match="lock"):
        installed.run("make", ".venv/installed")
    pyproject.write_text(fitting, "utf-8")
    installed.run("make", ".venv/installed")

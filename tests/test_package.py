"""Tests of the wheel of ``passthrough/`` and ``local_flyte/`` (docs/recipes/many-apps.md)."""

import re
import shutil
import tomllib
from collections.abc import Iterable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import Distribution
from pathlib import Path
from threading import Thread

import pytest
from packaging.requirements import Requirement
from template import ROOT

from local_flyte import LocalFlyte
from local_flyte.testing import client_of

from .baking import BIN, PROJECT, Baker, edit, ended, files_in, run
from .local_flyte.test_command import JOBS
from .long_running import running
from .test_update import TEMPLATE, create, earlier, present, status, update
from .walkthrough import code_blocks, commit, for_make, path_with_tools

pytestmark = pytest.mark.slow

FOLDERS = ("passthrough", "local_flyte")
PAGE = ROOT / PROJECT / "docs/recipes/many-apps.md"
EXAMPLE = "https://packages.example.com/simple/"


def of_the_package(project: Path) -> dict[str, bytes]:
    """Return the content of all files of both folders, by path."""
    files = [file for file in files_in(project) if file.startswith(FOLDERS)]
    return {file: (project / file).read_bytes() for file in files}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel as documented, and put it into a folder that serves as an index."""
    index = tmp_path_factory.mktemp("index") / "simple/flyte-passthrough"
    (command,) = code_blocks(PAGE, "Publish the package", "sh")
    _, *arguments = command.split()
    run([BIN / "uv", *arguments, "--quiet", "--out-dir", index], ROOT)
    (wheel,) = index.glob("*.whl")
    return wheel


def versions(requirements: Iterable[str]) -> dict[str, str]:
    """Return the version specifiers of requirements by package."""
    return {item.name: str(item.specifier) for item in map(Requirement, requirements)}


def test_wheel_has_files_and_requirements_of_project(
    wheel: Path, default_project: Path, tmp_path: Path
) -> None:
    shutil.unpack_archive(wheel, tmp_path, "zip")
    assert of_the_package(tmp_path) == of_the_package(default_project)
    code = "import local_flyte.testing, passthrough.agents; print(passthrough.__file__)"
    assert str(tmp_path) in run([BIN / "python", "-c", code], tmp_path)
    (metadata,) = tmp_path.glob("*.dist-info")
    package = Distribution.at(metadata)
    project_config = tomllib.loads((default_project / "pyproject.toml").read_text("utf-8"))
    requires = package.requires or []
    needed = versions(text for text in requires if "local" not in text)
    assert needed == versions(project_config["project"]["dependencies"])
    local = versions(text for text in requires if "local" in text)
    assert local.keys() <= versions(project_config["dependency-groups"]["dev"]).keys()
    dependency, _ = code_blocks(PAGE, "Use the package in an app", "toml")
    assert Requirement(dependency.strip(' ",\n')).specifier.contains(package.version)


def move(project: Path, address: str = EXAMPLE) -> None:
    """Follow the steps for an app, with an index at this URL."""
    (delete,) = code_blocks(PAGE, "Use the package in an app", "sh")
    run(["sh", "-c", delete], project)
    dependency, origin = code_blocks(PAGE, "Use the package in an app", "toml")
    pyproject = project / "pyproject.toml"
    edit(pyproject, "dependencies = [\n    ", f"dependencies = [\n{dependency}    ")
    with pyproject.open("a", encoding="utf-8") as file:
        file.write("\n" + origin.replace(EXAMPLE, address))


@pytest.mark.weekly
def test_update_does_not_restore_packaged_folders(baker: Baker, tmp_path: Path) -> None:
    """New files are not restored either, if a folder remains that git ignores."""
    template = tmp_path / TEMPLATE
    earlier(template)
    (template / PROJECT / "passthrough/models.py").unlink()
    edit(template / PROJECT / "passthrough/limits.py", '"""', '"""Earlier: ')
    commit(template)
    project = create(template, baker)
    move(project)
    (project / "passthrough/__pycache__").mkdir(parents=True)
    commit(project)
    present(template)
    update(project)
    assert of_the_package(project) == {}
    assert not [line for line in status(project) if line.startswith(("U", "AA", "DD"))]
    assert not list(project.rglob("*.rej"))


@pytest.mark.weekly
def test_published_wheel_runs_tasks_of_any_project(wheel: Path, tmp_path: Path) -> None:
    """The test follows README.md of the template, in an environment without the template."""
    build, *steps = code_blocks(ROOT / "README.md", "A local Flyte server for any project", "sh")
    assert [build] == code_blocks(PAGE, "Publish the package", "sh")
    *install, start = steps[0].splitlines()
    (tmp_path / "clone/dist").mkdir(parents=True)
    shutil.copy(wheel, tmp_path / "clone/dist")
    (project := tmp_path / "project").mkdir()
    (project / "jobs.py").write_text(JOBS, "utf-8")
    for command in install:
        run(["sh", "-ec", command], project, CLONE=str(tmp_path / "clone"))
    with running(start.split(), project, PWD=str(project)) as server:
        printed = server.wait_until_ready()
        (config,) = re.findall(r"flyte -c (\S+/bob.yaml)", printed)
        flyte: list[str | Path] = [project / ".venv/bin/flyte", "-c", config]
        double = ["run", "--follow", "deployed-task", "jobs.double", "--x", "21"]
        variables = {"HOME": str(tmp_path), "COLUMNS": "300", "TERM": "xterm", "DO_NOT_TRACK": "1"}
        output = run([*flyte, *double], project, **variables)
        assert "completed for action a0" in output
        server.interrupt()


# In a separate environment, from an index


@pytest.fixture(scope="module")
def index(wheel: Path) -> Iterator[str]:
    """Serve an index with the wheel, and yield the URL."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(wheel.parents[2]))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/simple/"
        server.shutdown()


@pytest.fixture(scope="module")
def moved(index: str, baker: Baker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project that uses the package, set up by make."""
    folder = tmp_path_factory.mktemp("moved")
    project = baker(folder)
    move(project, index)
    run(["make", ".venv/installed"], project, PATH=path_with_tools(folder / "bin"), **for_make())
    return project


@pytest.mark.weekly
def test_move_to_package_can_be_reverted(moved: Path, project: Path, default_project: Path) -> None:
    """All tests are collected, and pass."""
    collected: list[str | Path] = [BIN / "python", "-m", "pytest", "--collect-only", "-q"]
    (before,) = re.findall(r"^(\d+) tests? collected", run(collected, project), re.M)
    output = run(["make", "test"], moved)
    (last,) = re.findall(r"^=+ (.* passed.*) in .* =+$", output, re.MULTILINE)
    numbers = {kind: int(number) for number, kind in re.findall(r"(\d+) (\w+)", last)}
    assert numbers.keys() <= {"passed", "skipped", "warnings", "warning"}
    assert numbers["passed"] + numbers.get("skipped", 0) == int(before)
    run(["make", "check"], moved)
    assert of_the_package(moved) == {}
    move(project)
    (project / ".venv").symlink_to(moved / ".venv")
    (copy,) = code_blocks(PAGE, "Return to folders in the project", "sh")
    run(["sh", "-c", copy], project)
    assert of_the_package(project) == of_the_package(default_project)


@pytest.mark.weekly
def test_image_of_moved_project_contains_package(moved: Path, tmp_path: Path) -> None:
    """The image is built with ``uv sync`` of the SDK (test_deployed.py) from a lock file."""
    uv, image = moved / ".venv/bin/uv", tmp_path / "image"
    run(["make", "uv.lock"], moved)
    sync: list[str | Path] = [uv, "sync", "--quiet", "--locked", "--no-dev", "--no-install-project"]
    run(sync, moved, UV_PROJECT_ENVIRONMENT=str(image), **for_make())
    with LocalFlyte(app_bin=image / "bin") as flyte:
        deploy: list[str | Path] = [moved / ".venv/bin/flyte", "-c", flyte.config_file()]
        run([*deploy, "deploy", "deployment.py", "app_env"], moved, HOME=str(flyte.home))
        with client_of(flyte.wait_app("my-flyte-app"), "bob") as bob:
            assert bob.get("/me").json()["email"] == "bob@example.com"


@pytest.mark.weekly
def test_package_command_without_app_or_file_fails(moved: Path, tmp_path: Path) -> None:
    """local_flyte/test_command.py tests the command with a file."""
    done = ended([moved / ".venv/bin/local-flyte"], tmp_path)
    assert done.returncode != 0
    assert "this folder has no app/main.py" in done.stdout

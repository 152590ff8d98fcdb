"""An owner's first week: nothing breaks after deletions.

Each part is deleted with its test file and the lines that name it, and nothing else.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from .baking import Baker, run
from .test_owner import ABOUT_ALL, check, cut

pytestmark = pytest.mark.slow


def delete(project: Path, *names: str) -> None:
    for name in names:
        path = project / name
        run(["rm", "-r", str(path)], project)


def without_router(project: Path, name: str) -> None:
    delete(project, f"app/routers/{name}.py", f"tests/test_{name}.py")
    cut(project / "app/main.py", f'    "{name}",\n')


def without_agents(project: Path) -> None:
    imported = "from passthrough.requests.agents import serve_agents\n"
    main, pyproject = project / "app/main.py", project / "pyproject.toml"
    lines = re.findall(r".*serve_agents\(.*\n", main.read_text("utf-8"))
    cut(main, imported, *lines)
    cut(pyproject, *re.findall(r' *"mcp>.*\n', pyproject.read_text("utf-8")))
    # The environment still has the package: it must not be used.
    (project / "mcp.py").write_text('"""Not installed."""\n\nraise ImportError(__name__)\n')


def without_small_parts(project: Path) -> None:
    without_agents(project)
    without_router(project, "me")
    without_router(project, "projects")


def without_streams_page_and_samples(project: Path) -> None:
    without_router(project, "streams")
    delete(project, "app/page", "tests/test_page.py")
    delete(project, "app/tasks.py", "tests/test_sample_tasks.py")
    lines = ("from app.tasks import task_env\n", "    depends_on=[task_env],\n")
    cut(project / "deployment.py", *lines)


def without_tasks(project: Path) -> None:
    without_router(project, "tasks")


def with_only_health(project: Path) -> None:
    without_agents(project)
    without_streams_page_and_samples(project)
    for name in ("me", "projects", "tasks", "runs", "actions", "conditions"):
        without_router(project, name)
    main = project / "app/main.py"
    unused = r"ROUTERS = .*\n.*\n.*\n\n|    for name in R.*\n.*\n|from .*(?:resolve_name|Domain)\n"
    cut(main, *re.findall(unused, main.read_text("utf-8")))


# Functions that delete parts, and patterns for tests that may need them. Those tests run, and the
# tests of every endpoint.
DELETIONS: dict[str, tuple[Callable[[Path], None], str]] = {
    "agents, me, projects": (
        without_small_parts,
        '"/me|/projects|/mcp',
    ),
    "streams, page, sample tasks": (
        without_streams_page_and_samples,
        r"/events|/logs|/page/|routers import page|page\.(FILES|PATHS)|deployment|app\.tasks",
    ),
    "tasks": (without_tasks, "/tasks"),
    "everything but health": (with_only_health, ""),
}


SMALLER = {"agents, me, projects", "streams, page, sample tasks", "tasks"}
"""Parts of "everything but health"; the first runs most of the project's tests, half a minute."""


@pytest.mark.parametrize(
    "part",
    [pytest.param(each, marks=[pytest.mark.weekly] * (each in SMALLER)) for each in DELETIONS],
)
def test_parts_can_be_deleted_with_only_their_test_files(
    part: str, baker: Baker, environment: Path, tmp_path: Path
) -> None:
    project = baker(tmp_path)
    delete_part, mentions = DELETIONS[part]
    delete_part(project)
    check(project, environment)
    tests = [
        file.relative_to(project)
        for file in sorted((project / "tests").glob("test_*.py"))
        if f"tests/{file.name}" in ABOUT_ALL or re.search(mentions, file.read_text("utf-8"))
    ]
    pytest_command: list[str | Path] = [environment / "bin" / "python", "-m", "pytest", "-q"]
    said = run([*pytest_command, *tests], project)
    assert re.search(r"\d{2,} passed", said), said
    # The other tests are imported, so one that needs the part fails.
    run([*pytest_command, "--collect-only"], project)

"""An owner's first week: nothing breaks after deletions.

Each part is deleted with its test file and the lines that name it, and nothing else.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from .baking import BIN, Baker, run
from .test_owner import check, cut

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
    for name in ("me", "projects", "tasks"):
        without_router(project, name)


def without_streams_page_and_samples(project: Path) -> None:
    without_router(project, "streams")
    delete(project, "app/page", "tests/test_page.py")
    delete(project, "app/tasks.py", "tests/test_sample_tasks.py")
    lines = ("from app.tasks import task_env\n", "    depends_on=[task_env],\n")
    cut(project / "deployment.py", *lines)


def with_only_health(project: Path) -> None:
    without_small_parts(project)
    without_streams_page_and_samples(project)
    for name in ("runs", "actions", "conditions"):
        without_router(project, name)
    main = project / "app/main.py"
    unused = r"ROUTERS = .*\n.*\n.*\n\n|    for name in R.*\n.*\n|from .*(?:resolve_name|Domain)\n"
    cut(main, *re.findall(unused, main.read_text("utf-8")))


@pytest.mark.parametrize(
    "delete_parts",
    [
        pytest.param(without_small_parts, marks=pytest.mark.weekly),
        pytest.param(without_streams_page_and_samples, marks=pytest.mark.weekly),
        with_only_health,
    ],
)
def test_parts_can_be_deleted_with_only_their_test_files(
    delete_parts: Callable[[Path], None], baker: Baker, tmp_path: Path
) -> None:
    project = baker(tmp_path)
    delete_parts(project)
    check(project)
    assert re.search(r"\d passed", run([BIN / "python", "-m", "pytest", "-q", "-n2"], project))

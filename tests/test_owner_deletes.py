"""An owner's first week: what is not wanted is deleted, and nothing breaks.

Each part is deleted together with its test file and the lines that name it, nothing else.
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


def without_websocket(project: Path) -> None:
    streams = project / "app/routers/streams.py"
    text = streams.read_text("utf-8")
    text = text.replace('websocket_router = APIRouter(tags=["runs"])\n', "")
    text = re.sub(r"@websocket_router.*?(?=^async def _|\Z)", "", text, flags=re.DOTALL | re.M)
    streams.write_text(text, "utf-8")
    cut(project / "app/main.py", "        streams.websocket_router,\n")
    delete(project, "tests/test_websocket.py")


def without_streams(project: Path) -> None:
    delete(project, "app/routers/streams.py", "tests/test_streams.py", "tests/test_websocket.py")
    lines = ("    streams,\n", "        streams.router,\n", "        streams.websocket_router,\n")
    cut(project / "app/main.py", *lines)


def without_page(project: Path) -> None:
    delete(project, "app/page", "tests/test_page.py")


def without_sample_tasks(project: Path) -> None:
    delete(project, "app/tasks.py", "tests/test_sample_tasks.py")
    lines = ("from app.tasks import task_env\n", "    depends_on=[task_env],\n")
    cut(project / "deployment.py", *lines)


def without_router(name: str) -> Callable[[Path], None]:
    def remove(project: Path) -> None:
        delete(project, f"app/routers/{name}.py", f"tests/test_{name}.py")
        cut(project / "app/main.py", f"    {name},\n", f"        {name}.router,\n")

    return remove


def with_only_health(project: Path) -> None:
    """Runs go last: the tasks' answers and the streams' are runs."""
    without_streams(project)
    without_page(project)
    without_sample_tasks(project)
    for name in ("me", "projects", "tasks", "runs"):
        without_router(name)(project)


# How to delete a part, and what a test says that might need it; those run, with those about all.
DELETIONS: dict[str, tuple[Callable[[Path], None], str]] = {
    "the WebSocket": (without_websocket, "WEBSOCKET|/watch"),
    "the streams": (without_streams, ""),
    "the page": (without_page, r"/page/|routers import page|page\.(FILES|PATHS)"),
    "the sample tasks": (without_sample_tasks, r"deployment|app\.tasks"),
    "me": (without_router("me"), '"/me'),
    "projects": (without_router("projects"), "/projects"),
    "tasks": (without_router("tasks"), "GREET|/tasks"),
    "everything but health": (with_only_health, ""),
}


@pytest.mark.parametrize("part", DELETIONS)
def test_a_part_goes_with_its_test_file_and_nothing_else(
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
    in_two = ["-n", "2", "--dist", "loadfile"]
    said = run([*pytest_command, *in_two, *tests], project)
    assert re.search(r"\d{2,} passed", said), said
    # The rest is imported, so a test that cannot do without the part is noticed.
    run([*pytest_command, "--collect-only"], project)

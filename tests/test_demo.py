"""The steps in README.md, "Try it", in a fresh clone."""

import re
import shutil
import signal
from pathlib import Path

import pytest

from local_flyte.__main__ import PORT

from .baking import run
from .long_running import running
from .walkthrough import (
    check_two_people_and_end,
    clone,
    code_block,
    devcontainer,
    for_make,
    path_with_tools,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cloned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clone(tmp_path_factory.mktemp("demo") / "cookiecutter-flyte-app")


def test_make_demo_in_a_fresh_clone_shows_two_people_and_leaves_nothing(
    cloned: Path, tmp_path: Path
) -> None:
    (command,) = code_block("Try it")
    editor = devcontainer(cloned)
    assert (editor["postAttachCommand"], editor["forwardPorts"]) == (command, [PORT])
    assert editor["postCreateCommand"] == "make .venv/installed"  # which `make test` also does
    with running(command.split(), cloned, PWD=str(cloned), **for_make()) as app:
        app.wait_until_ready()
        assert "make dev" not in app.printed()
        lines = re.findall(r"^ +(cd .*|\S*flyte -c .*)$", app.printed(), re.MULTILINE)
        assert [Path(line.split()[0]).name for line in lines] == ["cd", "flyte", "flyte"]
        # Pasted into another terminal, in the folder where the demo was started.
        environment = {"HOME": str(tmp_path), "COLUMNS": "300", "DO_NOT_TRACK": "1"}
        aborted = 128 + signal.SIGABRT  # see DONE
        pasted = "\n".join(f"{line} || [ $? = {aborted} ]" for line in lines)
        said = run(["sh", "-ec", pasted], cloned, **environment)
        assert "my-flyte-app-tasks" in said
        check_two_people_and_end(app)
    assert run(["git", "status", "--porcelain"], cloned) == ""


@pytest.mark.weekly
def test_the_demo_without_make(cloned: Path, tmp_path: Path) -> None:
    """In the same clone: installed packages are reused, and the project is generated again."""
    *setup, demo = code_block("Try it", 1)
    path = path_with_tools(tmp_path / "bin")
    shutil.rmtree(cloned / ".venv", ignore_errors=True)
    for command in setup:
        run(["sh", "-c", command], cloned, PATH=path)
    stale = cloned / ".demo" / "my-flyte-app" / "app" / "stale.py"
    stale.parent.mkdir(parents=True, exist_ok=True)
    stale.write_text("STALE = 1\n")
    with running(demo.split(), cloned, PATH=path) as app:
        check_two_people_and_end(app)
    assert not stale.exists()

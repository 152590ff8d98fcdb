import asyncio
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest

from local_flyte.processes import Containers

PROGRAMS = Path(sys.executable).parent


async def output_of(
    tmp_path: Path, *command: str, programs: Path = PROGRAMS, **environment: str
) -> list[str]:
    lines: list[str] = []
    code = await Containers(programs, tmp_path / "home").run(
        command,
        directory=tmp_path,
        environment=environment,
        started=lambda: None,
        output=lines.append,
    )
    assert code == 0, "".join(lines)
    return lines


def test_a_process_gets_only_the_containers_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_OURS", "1")
    program = "import os; print('SECRET_OF_OURS' in os.environ, os.environ['GIVEN'])"
    lines = asyncio.run(output_of(tmp_path, "python", "-c", program, GIVEN="yes"))
    assert lines == ["False yes\n"]


# An editable install makes a source tree importable in one of two ways: a path or an import hook.
HOOK = """
import importlib.machinery, sys
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return importlib.machinery.PathFinder.find_spec(name, [{tree!r}])
sys.meta_path.append(Finder)
"""


@pytest.mark.parametrize("kind", ["path", "hook"])
def test_an_installed_source_tree_cannot_be_imported(tmp_path: Path, kind: str) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "left_out.py").write_text("")
    venv.create(tmp_path / "venv")
    (packages,) = tmp_path.glob("venv/lib/*/site-packages")
    (packages / "__editable___finder.py").write_text(HOOK.format(tree=str(tree)))
    line = str(tree) if kind == "path" else "import __editable___finder"
    (packages / "__editable__.pth").write_text(f"{line}\n")
    python = tmp_path / "venv" / "bin" / "python"
    program = "import importlib.util as find; print(bool(find.find_spec('left_out')))"
    assert subprocess.check_output([python, "-c", program], text=True) == "True\n"
    running = output_of(tmp_path, "python", "-c", program, programs=python.parent)
    assert asyncio.run(running) == ["False\n"]


def test_output_arrives_in_lines_of_any_length(tmp_path: Path) -> None:
    program = "print('x' * 3_000_000); print('short'); print(end='no line break')"
    lines = asyncio.run(output_of(tmp_path, "python", "-c", program))
    assert [len(line) for line in lines] == [3_000_001, 6, 13]
    assert lines[1:] == ["short\n", "no line break"]


@pytest.mark.skipif(shutil.which("ps") is None, reason="processes are looked up with ps")
def test_cancelling_ends_the_process_and_its_children(tmp_path: Path) -> None:
    # The child prints its process id, and then sleeps longer than the test.
    program = (
        "import subprocess, sys\n"
        "child = [sys.executable, '-c', 'import os, time; print(os.getpid()); time.sleep(600)']\n"
        "subprocess.run(child)"
    )

    async def start_and_cancel() -> int:
        told: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        running = asyncio.create_task(
            Containers(PROGRAMS, tmp_path / "home").run(
                ["python", "-c", program],
                directory=tmp_path,
                environment={},
                started=lambda: None,
                output=lambda line: told.set_result(int(line)),
            )
        )
        child = await asyncio.wait_for(told, 60)
        running.cancel()
        await asyncio.wait({running})  # returns once the output is at its end: nobody holds it
        return child

    child = asyncio.run(start_and_cancel())
    deadline = time.monotonic() + 60
    while is_alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_alive(process: int) -> bool:
    # The process that inherits the orphan may never reap it: then it stays a zombie.
    command = ["ps", "-o", "stat=", "-p", str(process)]
    state = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return bool(state) and not state.startswith("Z")

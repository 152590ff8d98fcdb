import asyncio
import contextlib
import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from local_flyte.processes import Containers
from local_flyte.testing import wait_until

started_and_forked = pytest.mark.parametrize("program", ["python", "a0"])


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Return a folder with Python, and with an ``a0`` that executes its second argument."""
    folder = tmp_path / "venv" / "bin"
    venv.create(folder.parent)
    (folder / "a0").write_text(f"#!{folder / 'python'}\nimport sys\nexec(sys.argv[2])\n")
    (folder / "a0").chmod(0o700)
    return folder


async def run_in(
    programs: Path, program: str, code: str, output: Callable[[str], None], **environment: str
) -> int:
    with contextlib.closing(Containers(programs, programs / "home")) as containers:
        return await containers.run(
            [program, "-c", code],
            directory=programs,
            environment=environment,
            started=lambda: None,
            output=output,
        )


def output_of(programs: Path, program: str, code: str, **environment: str) -> list[str]:
    """Run Python code, and return the output lines, followed by the exit code."""
    lines: list[str] = []
    ended = asyncio.run(run_in(programs, program, code, output=lines.append, **environment))
    return [*lines, f"exit code {ended}"]


@started_and_forked
def test_process_has_own_environment_output_and_exit_code(
    programs: Path, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_OURS", "1")
    code = """import os
print('SECRET_OF_OURS' in os.environ, os.environ['GIVEN'], os.getcwd())
print('x' * 3_000_000)
print(end='no line break')
os.kill(os.getpid(), 9)"""
    lines = output_of(programs, program, code, GIVEN="yes")
    assert lines[0] == f"False yes {programs}\n"
    assert lines[1] == "x" * 3_000_000 + "\n"
    assert lines[2:] == ["no line break", "exit code -9"]
    *_, error, end = output_of(programs, program, "1 / 0")
    assert (error, end) == ("ZeroDivisionError: division by zero\n", "exit code 1")


def test_process_is_killed_when_its_client_ends(programs: Path) -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    start = f"run_in(Path({str(programs)!r}), 'a0', {code!r}, output=print)"
    script = f"import asyncio; from {__name__} import *; asyncio.run({start})"
    command = [sys.executable, "-uc", script]
    with subprocess.Popen(command, env={"PYTHONPATH": os.pathsep.join(sys.path)}, stdout=-1) as own:
        assert own.stdout
        process = int(own.stdout.readline())
        own.terminate()

    def is_gone() -> bool:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        return False

    wait_until(is_gone)


@started_and_forked
def test_editable_source_tree_cannot_be_imported(
    tmp_path: Path, programs: Path, program: str
) -> None:
    """An editable install would make modules importable that the code bundle lacks."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/source.py").touch()
    (packages,) = tmp_path.glob("venv/lib/*/site-packages")
    (packages / "__editable__.pth").write_text(f"{tmp_path / 'tree'}\n")
    code = "from importlib.util import find_spec; print(bool(find_spec('source')))"
    assert subprocess.check_output([programs / "python", "-c", code], text=True) == "True\n"
    assert output_of(programs, program, code) == ["False\n", "exit code 0"]


def test_cancelling_kills_process_and_children(programs: Path) -> None:
    child = "print('started', flush=True); import time; time.sleep(600)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"

    async def start_and_cancel() -> bool:
        started = asyncio.Event()
        running = asyncio.create_task(run_in(programs, "a0", code, output=lambda _: started.set()))
        await asyncio.wait_for(started.wait(), 60)
        for _ in range(2):  # an abort, then the stop of the server
            running.cancel()
            await asyncio.sleep(0)
        await asyncio.wait({running}, timeout=60)  # until all output is read
        return running.done()

    assert asyncio.run(start_and_cancel())

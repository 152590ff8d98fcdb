"""``python -m local_flyte``, as people start it."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def started(request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command with all it has printed until it said how to stop it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]  # a port in use is not an error
        command = subprocess.Popen(
            [sys.executable, "-m", "local_flyte", "--port", str(port), *request.param],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert command.stdout is not None
        printed = ""
        try:
            for line in command.stdout:
                printed += line
                if line.startswith("Press Ctrl-C"):
                    break
            yield command, printed
        finally:
            command.kill()
            command.stdout.close()
            command.wait()


def stop(command: subprocess.Popen[str], number: signal.Signals) -> str:
    """Stop it, as Ctrl-C or a supervisor would; return what it still prints."""
    command.send_signal(number)
    rest, _ = command.communicate(timeout=60)  # nobody has its output open any more either
    assert command.returncode == 0, rest
    assert "Traceback" not in rest
    return rest


@pytest.mark.skipif(shutil.which("curl") is None, reason="the printed lines need curl")
@pytest.mark.parametrize("started", [[]], indirect=True)
def test_the_printed_lines_work_and_ctrl_c_ends_it_all(
    started: tuple[subprocess.Popen[str], str],
) -> None:
    command, printed = started
    for step in ("Starting local Flyte", "Registering the sample tasks", "Starting the app"):
        assert step in printed
    assert "is in use" in printed
    answers = [
        subprocess.run(
            [*shlex.split(line), "--silent", "--fail", "--noproxy", "*"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for line in re.findall(r"^ +(curl .*)$", printed, re.MULTILINE)
    ]
    assert "alice@example.com" in answers[0]
    assert "bob@example.com" in answers[1]
    assert "bob@example.com" in answers[2]
    assert '"queued"' in answers[3] or '"running"' in answers[3]
    stop(command, signal.SIGINT)


@pytest.mark.parametrize("started", [["--flyte-only"]], indirect=True)
def test_flyte_alone_works_with_the_cli(started: tuple[subprocess.Popen[str], str]) -> None:
    command, printed = started
    line = re.search(r"^ +(flyte .*)$", printed, re.MULTILINE)
    assert line is not None
    program, *arguments = shlex.split(line[1])
    subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        env={**os.environ, "DO_NOT_TRACK": "1"},
        check=True,
        capture_output=True,
    )
    stop(command, signal.SIGTERM)

"""``python -m local_flyte``, as people start it in a generated project."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ..long_running import Running, curl_lines, running

pytestmark = pytest.mark.slow


@contextmanager
def started(project: Path, *options: str) -> Iterator[tuple[Running, str]]:
    """Start the command; yield it and all it has printed until it said how to stop it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])  # a port in use is not an error
        command = [sys.executable, "-m", "local_flyte", "--port", port, *options]
        with running(command, project) as process:
            yield process, process.wait_until_ready()


def check_ends(command: Running, number: signal.Signals) -> None:
    """Stop it, as Ctrl-C or a supervisor would: it ends well, with all that it has started."""
    command.process.send_signal(number)
    assert command.process.wait(60) == 0, command.printed()
    assert "Traceback" not in command.printed()
    assert command.left_over() == []


@pytest.mark.skipif(shutil.which("curl") is None, reason="the printed lines need curl")
def test_the_printed_lines_work_and_ctrl_c_ends_it_all(default_project: Path) -> None:
    with started(default_project) as (command, printed):
        for step in ("Starting local Flyte", "Registering the sample tasks", "Starting the app"):
            assert step in printed
        assert "is in use" in printed
        answers = [
            subprocess.run(
                [*line, "--silent", "--fail", "--noproxy", "*"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for line in curl_lines(printed)
        ]
        assert "alice@example.com" in answers[0]
        assert "bob@example.com" in answers[1]
        assert "bob@example.com" in answers[2]
        assert '"queued"' in answers[3] or '"running"' in answers[3]
        check_ends(command, signal.SIGINT)


def test_flyte_alone_works_with_the_cli(default_project: Path) -> None:
    with started(default_project, "--flyte-only") as (command, printed):
        line = re.search(r"^ +(flyte .*)$", printed, re.MULTILINE)
        assert line is not None
        program, *arguments = shlex.split(line[1])
        subprocess.run(
            [Path(sys.executable).with_name(program), *arguments],
            env={**os.environ, "DO_NOT_TRACK": "1"},
            check=True,
            capture_output=True,
        )
        check_ends(command, signal.SIGTERM)

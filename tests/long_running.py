"""Helpers for commands that run until Ctrl-C: start, read output, stop, find leftover processes."""

import os
import re
import shlex
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from local_flyte.testing import wait_until

from .baking import clean_environment

MARK = "WALKTHROUGH_MARK"
READY = "Press Ctrl-C to stop."


@dataclass(frozen=True)
class Running:
    """A running command. The environment of all child processes contains the mark."""

    process: subprocess.Popen[bytes]
    output: Path
    mark: str

    def printed(self) -> str:
        return self.output.read_text("utf-8")

    def wait_until_ready(self) -> str:
        """Wait for the end of the banner, and return the output."""
        wait_until(lambda: READY in self.printed() or self.process.poll() is not None)
        assert READY in self.printed(), f"ended:\n{self.printed()}"
        return self.printed()

    def interrupt(self) -> int:
        """Send SIGINT to the process group, like Ctrl-C, and return the exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(300)

    def left_over(self) -> list[str]:
        """Return the command lines of child processes that do not end (Linux)."""
        with suppress(AssertionError):  # killed processes need a moment
            wait_until(lambda: not self._still_there())
        return self._still_there()

    def _still_there(self) -> list[str]:
        commands = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if f"{MARK}={self.mark}".encode() in (folder / "environ").read_bytes():
                    commands.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        return [command for command in commands if command]


@contextmanager
def running(command: Sequence[str], cwd: Path, **environment: str) -> Iterator[Running]:
    """Run a command until the block ends."""
    mark = uuid.uuid4().hex
    with (
        tempfile.NamedTemporaryFile() as output,
        subprocess.Popen(
            command,
            cwd=cwd,
            env=clean_environment(**environment, **{MARK: mark}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield Running(process, Path(output.name), mark)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)


def curl_lines(printed: str) -> list[list[str]]:
    """Return the ``curl`` commands in a text, split into words."""
    return [shlex.split(line) for line in re.findall(r"^\s*(curl .*)$", printed, re.MULTILINE)]

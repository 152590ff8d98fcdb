"""Commands that run until Ctrl-C: start one, read its output, stop it, see what is left."""

import os
import re
import shlex
import signal
import subprocess
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from local_flyte.testing import wait_until

from .baking import clean_environment

MARK = "WALKTHROUGH_MARK"
READY = "Press Ctrl-C to stop."


class Running:
    """A running command."""

    def __init__(self, command: Sequence[str], cwd: Path, environment: dict[str, str]) -> None:
        self.mark = uuid.uuid4().hex
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env=clean_environment(**environment, **{MARK: self.mark}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._lines.append(line)
            if READY in line:
                self._ready.set()
        self._ready.set()

    def printed(self) -> str:
        return "".join(self._lines)

    def wait_until_ready(self, seconds: float = 300) -> str:
        """Return its output up to the line that says how to stop it."""
        assert self._ready.wait(seconds), f"not ready after {seconds} s:\n{self.printed()}"
        assert READY in self.printed(), f"ended:\n{self.printed()}"
        return self.printed()

    def interrupt(self) -> int:
        """Signal the whole process group, as Ctrl-C does; return the exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(300)

    def left_over(self) -> list[str]:
        """Return the command lines of its processes that do not end (Linux)."""
        with suppress(AssertionError):  # killed processes need a moment
            wait_until(lambda: not self._still_there())
        return self._still_there()

    def _still_there(self) -> list[str]:
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if f"{MARK}={self.mark}".encode() in (folder / "environ").read_bytes():
                    found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return [command for command in found if command]

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(300)
        self._reader.join(300)
        assert self.process.stdout
        self.process.stdout.close()


@contextmanager
def running(command: Sequence[str], cwd: Path, **environment: str) -> Iterator[Running]:
    """Run a command until the block ends."""
    started = Running(command, cwd, environment)
    try:
        yield started
    finally:
        started.close()


def curl_lines(printed: str) -> list[list[str]]:
    """Return the ``curl`` commands in a text, each as its words."""
    return [shlex.split(line) for line in re.findall(r"^\s*(curl .*)$", printed, re.MULTILINE)]

"""The generated app, served by a real command, until it is asked to stop."""

import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from .baking import BIN, clean_environment


@contextmanager
def started(
    command: str, folder: Path, url: str, environment: dict[str, str], log: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command for the block, which starts once ``url`` answers or the command has ended.

    The command's output is in a file, by default ``log``; it is shown if nothing answers.
    """
    log = log or folder / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            shlex.split(f"{BIN}/{command}"),
            cwd=folder,
            env=clean_environment(**{"PYTHONPATH": str(folder)} | environment),
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            deadline = time.monotonic() + 300
            while process.poll() is None and not answers(url):
                assert time.monotonic() < deadline, f"{url} does not answer:\n{log.read_text()}"
                time.sleep(0.1)
            yield process
        finally:
            process.terminate()


def answers(url: str) -> bool:
    """Tell whether anything answers at an address."""
    try:
        return httpx.get(url, trust_env=False, timeout=60).status_code > 0
    except httpx.TransportError:
        return False

"""The generated app in a separate process."""

import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from local_flyte import sign_in
from local_flyte.serving import listen
from local_flyte.testing import wait_until

from .baking import BIN, clean_environment

SECRET = "only-for-this-test"
TASKS = "page-tests"
"""The prefix of the tasks in browser/page_tasks.py."""


def answers(url: str) -> bool:
    """Tell whether anything answers at an address."""
    try:
        return httpx.get(url, trust_env=False, timeout=60).status_code > 0
    except httpx.TransportError:
        return False


@contextmanager
def started(
    command: str, folder: Path, url: str, environment: dict[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command for the block, which starts once ``url`` answers or the command has ended."""
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
            wait_until(lambda: process.poll() is not None or answers(url))
            yield process
        finally:
            process.terminate()


class App:
    """The app, served as ``python -m local_flyte`` would, in a process that can be stopped."""

    def __init__(
        self, project: Path, log: Path, variables: dict[str, str], module: str = sign_in.__name__
    ) -> None:
        # Kept open while the app is down: clients wait, and the address stays the same.
        self._listener = listen()
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._project = project
        self._module = module
        self._log = log
        self._environment = clean_environment(**variables)

    def start(self) -> None:
        """Start the app and wait until it answers."""
        command = [sys.executable, "-m", "uvicorn", "--factory", f"{self._module}:create_app"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--fd", str(self._listener.fileno()), "--log-level", "warning"],
                cwd=self._project,
                env=self._environment,
                pass_fds=[self._listener.fileno()],
                stderr=log,
            )
        wait_until(lambda: self._process.poll() is not None or answers(f"{self.url}/health"))
        assert self._process.poll() is None, self._log.read_text("utf-8")

    def stop(self) -> None:
        """Kill the app, as a crash would."""
        self._process.kill()
        self._process.wait()

    def replace(self) -> None:
        """Ask it to stop, as when another replica takes its place, and give its address back."""
        self._listener.close()
        self._process.terminate()
        self._process.wait()

    def close(self) -> None:
        """Kill the app, and release its address."""
        self._listener.close()
        self.stop()

"""The generated app in a process of its own."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from local_flyte import sign_in

from .baking import clean_environment

SECRET = "only-for-this-test"
TASKS = "page-tests"
"""What the names of the tasks in browser/page_tasks.py begin with."""


def wait_until(condition: Callable[[], object], seconds: float = 300) -> None:
    """Wait for a condition, and fail if it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} seconds"
        time.sleep(0.02)


class App:
    """The app, as ``python -m local_flyte`` would serve it, in a process that can be ended."""

    def __init__(
        self, project: Path, log: Path, variables: dict[str, str], module: str = sign_in.__name__
    ) -> None:
        # Kept open while the app is away: who asks meanwhile waits, and the address stays.
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._project = project
        self._module = module
        self._log = log
        self._environment = clean_environment(**variables)

    def start(self) -> None:
        """Start it; return when it answers."""
        command = [sys.executable, "-m", "uvicorn", "--factory", f"{self._module}:create_app"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--fd", str(self._listener.fileno()), "--log-level", "warning"],
                cwd=self._project,
                env=self._environment,
                pass_fds=[self._listener.fileno()],
                stderr=log,
            )
        wait_until(lambda: self._process.poll() is not None or self._answers())
        assert self._process.poll() is None, self._log.read_text("utf-8")

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", trust_env=False, timeout=10).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        """End it, as a crash would."""
        self._process.kill()
        self._process.wait()

    def replace(self) -> None:
        """Ask it to stop, as when another replica takes its place, and give its address back."""
        self._listener.close()
        self._process.terminate()
        self._process.wait()

    def close(self) -> None:
        """End it, and give its address back."""
        self._listener.close()
        self.stop()

"""Starts and stops the processes to measure, which run ``server.py`` in a generated project."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import httpx
from cookiecutter.main import cookiecutter

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


class Server:
    """A server process, which prints a report after the start and for each line of input."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.details = self._report()

    def _report(self) -> dict[str, Any]:
        assert self._process.stdout
        report: dict[str, Any] = json.loads(self._process.stdout.readline())
        return report

    def usage(self) -> dict[str, Any]:
        """Return the report of the process, with CPU time in seconds and memory in bytes."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._report()

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()


@contextmanager
def started(
    role: str,
    project: Path,
    environment: dict[str, str],
    script: str = "server.py",
    log: int | IO[bytes] = subprocess.DEVNULL,
) -> Iterator[Server]:
    """Run a server until the block ends."""
    with subprocess.Popen(
        [sys.executable, HERE / script, *role.split()],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project), "DO_NOT_TRACK": "1", **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    ) as process:
        assert process.stdin
        try:
            yield Server(process)
        finally:
            process.stdin.close()


def generate(folder: Path, template: Path = ROOT) -> Path:
    """Generate the default project of a template in an empty folder."""
    config = folder / "cookiecutter.yaml"
    config.write_text(f"cookiecutters_dir: {folder}/clones\nreplay_dir: {folder}/replay\n")
    options = {"no_input": True, "output_dir": str(folder), "config_file": str(config)}
    return Path(cookiecutter(str(template), **options))


def start_run(url: str, headers: dict[str, str], task: str, **inputs: Any) -> str:
    """Start a run through our app, and return the name. ``task`` may be a sample task."""
    name = task if "." in task else f"my-flyte-app-tasks.{task}"
    response = httpx.post(
        f"{url}/tasks/{name}/runs",
        headers=headers,
        json={"inputs": inputs},
        timeout=60,
        trust_env=False,
    )
    response.raise_for_status()
    return str(response.json()["name"])

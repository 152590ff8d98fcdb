"""The generated app in a separate process."""

import shlex
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from local_flyte import PEOPLE, LocalFlyte, Mode, sign_in
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
    command: str, folder: Path, url: str, environment: Mapping[str, str], log: Path, *sockets: int
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command for the block, which starts once ``url`` answers or the command has ended."""
    with (
        log.open("wb") as output,
        subprocess.Popen(
            shlex.split(f"{BIN}/{command}"),
            cwd=folder,
            env=clean_environment(**{"PYTHONPATH": str(folder)} | dict(environment)),
            pass_fds=sockets,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            wait_until(lambda: process.poll() is not None or answers(url))
            yield process
        finally:
            process.terminate()


@dataclass(frozen=True)
class App:
    """The app, as ``python -m local_flyte`` serves it."""

    url: str


@contextmanager
def serving_app(project: Path, log: Path, flyte: LocalFlyte, **variables: str) -> Iterator[App]:
    """Serve a project's app on a local Flyte for the block, with sign-in."""
    people = () if flyte.mode is Mode.DEVBOX else PEOPLE.values()
    with listen() as listener:
        port, socket = listener.getsockname()[1], listener.fileno()
        url = f"http://127.0.0.1:{port}"
        signing_in = sign_in.environment(people, restarts=False, secret=SECRET, port=port)
        variables |= flyte.app_environment() | signing_in
        command = f"uvicorn --factory local_flyte.sign_in:create_app --fd {socket}"
        with started(command, project, f"{url}/health", variables, log, socket) as process:
            assert process.poll() is None, log.read_text("utf-8")
            yield App(url)

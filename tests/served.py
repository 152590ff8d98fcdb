"""Helpers that run the generated app, or a proxy, in a separate process."""

import shlex
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from local_flyte import PEOPLE, LocalFlyte, sign_in
from local_flyte.serving import listen
from local_flyte.testing import wait_until
from passthrough import UVICORN

from .baking import BIN, clean_environment

SECRET = "only-for-this-test"
TASKS = "page-tests"
"""Prefix of the task names in browser/page_tasks.py."""


def answers(url: str) -> bool:
    """Return whether a server responds at a URL."""
    try:
        return httpx.get(url, trust_env=False, verify=False, timeout=60).status_code > 0
    except httpx.TransportError:
        return False


@contextmanager
def started(
    command: str, folder: Path, url: str, environment: Mapping[str, str], log: Path, *sockets: int
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command of this environment during the block; wait until ``url`` responds."""
    program, *arguments = shlex.split(command)
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [BIN / program, *arguments],
            cwd=folder,
            env=clean_environment(**{"PYTHONPATH": str(folder)} | dict(environment)),
            pass_fds=sockets,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            wait_until(lambda: process.poll() is not None or answers(url))
            assert process.poll() is None, log.read_text("utf-8")
            yield process
        finally:
            process.terminate()


@dataclass(frozen=True)
class App:
    """The app in a separate process."""

    url: str
    pid: int


@contextmanager
def serving_app(
    project: Path, log: Path, flyte: LocalFlyte, *, signs_in: bool = True, **variables: str
) -> Iterator[App]:
    """Serve the app of a project with a local Flyte server during the block.

    With ``signs_in``, the app has the sign-in pages of ``python -m local_flyte``.
    """
    options = {f"UVICORN_{name}".upper(): str(value) for name, value in UVICORN.items()}
    with listen() as listener:
        port, socket = listener.getsockname()[1], listener.fileno()
        url = f"http://127.0.0.1:{port}"
        app, variables = "app.main:app", options | variables | flyte.app_environment()
        if signs_in:
            app = "--factory local_flyte.sign_in:create_app"
            variables |= sign_in.environment(PEOPLE.values(), secret=SECRET, port=port)
        command = f"uvicorn {app} --fd {socket}"
        with started(command, project, f"{url}/health", variables, log, socket) as process:
            yield App(url, process.pid)

"""Runs the app in a new process, which has served no request yet, for tests of shared state.

The process prints the URL of the app. After each request, the process prints one line of JSON that
contains the request's identifier, output and log. The last line contains the executed lines of the
package ``app``.
"""

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from io import TextIOBase
from pathlib import Path
from typing import Any

import coverage
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from .testing import serving

# Maximum wait, in seconds, for the asyncio tasks of a request. Then the app reports the request.
WORK_SECONDS = 2.0
REQUEST: ContextVar[str] = ContextVar("request", default="")


class FreshApp:
    """Client of the app in the other process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process, self._outputs = process, dict[str, str]()
        self._lock = threading.Lock()
        self.executed = dict[str, list[int]]()
        """The executed lines by file, after the process has ended."""
        self.url = self._next_line()

    def output(self, request_id: str) -> str:
        """Wait until the request has ended, and return its output and log."""
        with self._lock:
            while request_id not in self._outputs:
                self._outputs.update([json.loads(self._next_line())])
            return self._outputs.pop(request_id)

    def stop(self) -> None:
        """End the process, and read the executed lines."""
        output, _ = self._process.communicate()  # closes standard input, which ends the process
        self.executed = json.loads(output.splitlines()[-1])

    def _next_line(self) -> str:
        if self._process.stdout and (line := self._process.stdout.readline()):
            return line.strip()
        raise RuntimeError("the process of the app has ended: see its output")


@contextmanager
def fresh_app(folder: Path) -> Iterator[FreshApp]:
    """Serve the project in ``folder`` during the block, with this process's environment."""
    options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    # Messages of failed tests contain the log of a request, so omit the lines of the access log.
    options["env"] = {**os.environ, "ACCESS_LOG": "false"}
    with subprocess.Popen([sys.executable, "-m", __name__], cwd=folder, **options) as process:
        yield (app := FreshApp(process))
        app.stop()


class Output(TextIOBase):
    """Stores printed text under the identifier of the request that printed the text."""

    def __init__(self) -> None:
        self.texts = defaultdict[str, str](str)

    def write(self, text: str) -> int:
        self.texts[REQUEST.get()] += text
        return len(text)


def reporting(app: ASGIApp, report: Callable[[str], None]) -> ASGIApp:
    """Wrap ``app``, and report a request when the request and all its tasks have ended."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        others, request = asyncio.all_tasks(), Headers(scope=scope).get("x-request-id", "")
        REQUEST.set(request)
        try:
            await app(scope, receive, send)
        finally:
            if started := asyncio.all_tasks() - others:
                await asyncio.wait(started, timeout=WORK_SECONDS)
            report(request)

    return serve


def main() -> None:
    """Serve the app until standard input is closed."""
    measured = coverage.Coverage(data_file=None, config_file=False, source_pkgs=["app"])
    if sys.version_info >= (3, 12):
        measured.set_option("run:core", "sysmon")  # costs nothing after the first execution
    measured.start()
    from app.main import app  # noqa: PLC0415 - only in the process of the app

    lines, output = sys.stdout, Output()

    def report(request: str) -> None:
        print(json.dumps([request, output.texts.pop(request, "")]), file=lines, flush=True)

    with redirect_stdout(output), serving(reporting(app, report)) as url:
        logging.getLogger().addHandler(logging.StreamHandler(output))
        print(url, file=lines, flush=True)
        sys.stdin.read()
    measured.stop()
    data = measured.get_data()
    print(json.dumps({file: data.lines(file) for file in data.measured_files()}), file=lines)


if __name__ == "__main__":
    main()

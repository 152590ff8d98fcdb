"""Runs the app in a new process, which has served no request yet, for tests of shared state.

The process prints the URL of the app. After each request, the process prints one line of JSON that
contains the request's identifier, the output and log, and the problems of work that the request has
started. The last line contains the executed lines of the package ``app``.
"""

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from dataclasses import dataclass, field
from io import TextIOBase
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import coverage
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from .testing import serving

# Maximum wait, in seconds, for the asyncio tasks of a request. Then the app reports the request.
WORK_SECONDS = 2.0
REQUEST: ContextVar[str] = ContextVar("request", default="")


@dataclass
class Work:
    """What a request has printed, and what is wrong with the work that it has started."""

    output: str = ""
    problems: list[str] = field(default_factory=list)


class FreshApp:
    """Client of the app in the other process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process, self._works = process, dict[str, Work]()
        self._lock = threading.Lock()
        self.executed = dict[str, list[int]]()
        """The executed lines by file, after the process has ended."""
        self.url = self._next_line()

    def work(self, request_id: str) -> Work:
        """Wait until the request and the work that it has started have ended, and return it."""
        with self._lock:
            while request_id not in self._works:
                ended_id, output, problems = json.loads(self._next_line())
                self._works[ended_id] = Work(output, problems)
            return self._works.pop(request_id)

    def stop(self) -> None:
        """End the process, and read the executed lines."""
        output, _ = self._process.communicate()  # closes standard input, which ends the process
        self.executed = json.loads(output.splitlines()[-1])

    def _next_line(self) -> str:
        if self._process.stdout and (line := self._process.stdout.readline()):
            return line.strip()
        raise RuntimeError("the process of the app has ended: see its output")


@contextmanager
def fresh_app(folder: Path, environment: Mapping[str, str]) -> Iterator[FreshApp]:
    """Serve the project in ``folder`` during the block, with further environment variables."""
    options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    # Messages of failed tests contain the log of a request, so omit the lines of the access log.
    options["env"] = {**os.environ, "ACCESS_LOG": "false", **environment}
    with subprocess.Popen([sys.executable, "-m", __name__], cwd=folder, **options) as process:
        yield (app := FreshApp(process))
        app.stop()


class Works(TextIOBase):
    """Collects output and problems by request. Code that a request has started belongs to it."""

    def __init__(self) -> None:
        self._works = defaultdict[str, Work](Work)
        self._threads = WeakKeyDictionary[threading.Thread, str]()
        """The threads that requests have started, with the identifiers of the requests."""

    def current(self) -> Work:
        return self._works[REQUEST.get() or self._threads.get(threading.current_thread(), "")]

    def write(self, text: str) -> int:
        self.current().output += text
        return len(text)

    def observe(self) -> None:
        """Report errors in threads, and coroutines that nobody awaits."""
        thread_class: Any = threading.Thread
        start = thread_class.start

        def start_for_request(thread: threading.Thread) -> None:
            code = getattr(thread, "_target", None) or type(thread)
            is_of_pool = code.__module__.startswith(("anyio.", "concurrent."))
            if (request := REQUEST.get()) and not is_of_pool:
                self._threads[thread] = request
            start(thread)

        def show(message: Warning | str, *_: Any, **__: Any) -> None:
            self.write(f"{message}\n")
            if "was never awaited" in str(message):
                self.current().problems.append(f"{str(message).partition(chr(10))[0]}: await it")

        def report(error: Any) -> None:
            text = f"a thread failed with {error.exc_type.__name__}: {error.exc_value}"
            self.current().problems.append(text)

        thread_class.start = start_for_request
        threading.excepthook = report
        warnings.simplefilter("always", RuntimeWarning)
        warnings.showwarning = show

    async def end(self, request: str, others: set[asyncio.Task[Any]]) -> Work:
        """Wait for the tasks and threads that the request has started, and return its work."""
        if started := asyncio.all_tasks() - others:
            await asyncio.wait(started, timeout=WORK_SECONDS)
        for thread in [one for one, started_by in self._threads.items() if started_by == request]:
            await asyncio.to_thread(thread.join, WORK_SECONDS)
        return self._works.pop(request, Work())


def reporting(app: ASGIApp, works: Works, report: Callable[[str, Work], None]) -> ASGIApp:
    """Wrap ``app``, and report a request when the request and all its work have ended."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        others, request = asyncio.all_tasks(), Headers(scope=scope).get("x-request-id", "")
        REQUEST.set(request)
        try:
            await app(scope, receive, send)
        finally:
            report(request, await works.end(request, others))

    return serve


def main() -> None:
    """Serve the app until standard input is closed."""
    measured = coverage.Coverage(data_file=None, config_file=False, source_pkgs=["app"])
    if sys.version_info >= (3, 12):
        measured.set_option("run:core", "sysmon")  # costs nothing after the first execution
    measured.start()
    from app.main import app  # noqa: PLC0415 - only in the process of the app

    lines, works = sys.stdout, Works()

    def report(request: str, work: Work) -> None:
        print(json.dumps([request, work.output, work.problems]), file=lines, flush=True)

    works.observe()
    with redirect_stdout(works), serving(reporting(app, works, report)) as url:
        logging.getLogger().addHandler(logging.StreamHandler(works))
        print(url, file=lines, flush=True)
        sys.stdin.read()
    measured.stop()
    data = measured.get_data()
    print(json.dumps({file: data.lines(file) for file in data.measured_files()}), file=lines)


if __name__ == "__main__":
    main()

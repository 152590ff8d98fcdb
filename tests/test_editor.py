""".vscode/launch.json of a generated project: each configuration debugs, as an editor would."""

import itertools
import json
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import httpx
import pytest

from local_flyte.testing import wait_until

from .baking import clean_environment
from .long_running import READY

pytestmark = [pytest.mark.slow, pytest.mark.weekly]

Message = dict[str, Any]
SECONDS = 120


class Debugger:
    """A client for debugging one process, with the Debug Adapter Protocol."""

    def __init__(self, said: IO[bytes], say: IO[bytes], hear: Callable[[Message], None]) -> None:
        self._said, self._say, self._hear = said, say, hear
        self._numbers = itertools.count(1)
        self._initialized = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def begin(self, command: str, arguments: Message, breakpoint_at: tuple[Path, int]) -> None:
        """Launch a process, or attach to one, and set the breakpoint."""
        self.ask("initialize", {"adapterID": "debugpy", "pathFormat": "path"})
        self.ask(command, arguments)
        self._initialized.wait(SECONDS)
        file, line = breakpoint_at
        source = {"source": {"path": str(file)}, "breakpoints": [{"line": line}]}
        with suppress(OSError):  # the process may have ended
            self.ask("setBreakpoints", source)
            self.ask("configurationDone", {})

    def ask(self, command: str, arguments: Message) -> None:
        """Send a request."""
        request = {"seq": next(self._numbers), "type": "request", "command": command}
        content = json.dumps(request | {"arguments": arguments}).encode()
        self._say.write(b"Content-Length: %d\r\n\r\n%b" % (len(content), content))
        self._say.flush()

    def _listen(self) -> None:
        with suppress(OSError, ValueError):  # closed from here
            while header := self._said.readline():
                self._said.readline()
                message = json.loads(self._said.read(int(header.split(b":")[1])))
                if message.get("event") == "initialized":
                    self._initialized.set()
                self._hear(message)


class Editor:
    """Debugs a configuration with one breakpoint, including its child processes."""

    def __init__(self, adapter: subprocess.Popen[bytes], breakpoint_at: tuple[Path, int]) -> None:
        assert adapter.stdout
        assert adapter.stdin
        self.printed, self._at = "", breakpoint_at
        self.process: int | None = None
        self.threads: list[threading.Thread] = []
        self.done = threading.Event()
        self.stopped: queue.Queue[Debugger] = queue.Queue()
        self.ended: queue.Queue[int] = queue.Queue()
        self.main = Debugger(adapter.stdout, adapter.stdin, lambda each: self._hear(each, None))

    def _hear(self, message: Message, child: Debugger | None) -> None:
        match message:
            case {"type": "response", "success": False, "message": text}:
                self.printed += f"\nrefused: {text}\n"
            case {"event": "output", "body": {"output": text}}:
                self.printed += text
            case {"event": "stopped", "body": {"threadId": thread}}:
                self.stopped.put(debugger := child or self.main)
                debugger.ask("continue", {"threadId": thread})
            case {"event": "process", "body": {"systemProcessId": process}} if child is None:
                self.process = process
            case {"event": "exited", "body": {"exitCode": code}} if child is None:
                self.ended.put(code)
            case {"event": "debugpyAttach", "body": process}:
                self.threads.append(threading.Thread(target=self._attach, args=[process]))
                self.threads[-1].start()

    def _attach(self, process: Message) -> None:
        address = process["connect"]
        with (
            socket.create_connection((address["host"], address["port"])) as connection,
            connection.makefile("rb") as said,
            connection.makefile("wb") as say,
        ):
            children: list[Debugger] = []
            child = Debugger(said, say, lambda each: self._hear(each, children[0]))
            children.append(child)
            child.begin("attach", process, self._at)
            self.done.wait()
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def debugging(configuration: Message, project: Path, at: tuple[Path, int]) -> Iterator[Editor]:
    """Launch a configuration until the end of the block."""
    with subprocess.Popen(
        [sys.executable, "-m", "debugpy.adapter"],
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as adapter:
        editor = Editor(adapter, at)
        try:
            given = configuration | {"cwd": str(project), "console": "internalConsole"}
            editor.main.begin("launch", given, at)
            yield editor
        finally:
            if editor.process and editor.ended.empty():
                os.kill(editor.process, signal.SIGINT)
                wait_until(lambda: not editor.ended.empty())
            adapter.terminate()
            editor.done.set()
            for thread in editor.threads:
                thread.join(SECONDS)


@pytest.fixture
def project(default_project: Path, environment: Path, tmp_path: Path) -> Path:
    """A project with its environment."""
    copy = shutil.copytree(default_project, tmp_path / "project")
    (copy / ".venv").symlink_to(environment)
    return copy


def configuration(project: Path, module: str, file: str = "") -> Message:
    """Return the configuration that runs this module, with the editor's variables filled in."""
    text = (project / ".vscode/launch.json").read_text("utf-8")
    text = text.replace("${workspaceFolder}", str(project)).replace("${file}", file)
    (found,) = [each for each in json.loads(text)["configurations"] if each["module"] == module]
    return dict(found)


def line_of(file: Path, code: str) -> tuple[Path, int]:
    (number,) = [n for n, line in enumerate(file.read_text().splitlines(), 1) if code in line]
    return file, number


def test_a_test_stops_at_a_breakpoint_and_passes(project: Path) -> None:
    at = line_of(project / "app/tasks.py", "return f")
    chosen = configuration(project, "pytest", str(project / "tests/test_sample_tasks.py"))
    with debugging(chosen, project, at) as editor:
        for _ in range(2):
            editor.stopped.get(timeout=SECONDS)
        wait_until(lambda: not editor.ended.empty())
    assert editor.ended.get() == 0, editor.printed
    assert "2 passed" in editor.printed


def test_the_app_on_its_local_flyte_stops_at_a_breakpoint_of_an_endpoint(project: Path) -> None:
    at = line_of(project / "app/routers/me.py", "return caller")
    chosen = configuration(project, "local_flyte")
    chosen["args"] += ["--port", "0"]
    with debugging(chosen, project, at) as editor:
        wait_until(lambda: READY in editor.printed or not editor.ended.empty(), SECONDS)
        found = re.search(
            r"-H '(Authorization): (Bearer alice\S+)' (http://\S+/me)", editor.printed
        )
        assert found
        me = httpx.get(found[3], headers={found[1]: found[2]}, trust_env=False, timeout=SECONDS)
        assert me.json()["subject"] == "alice-subject"
        assert editor.stopped.get(timeout=SECONDS) is not editor.main  # the app is its child

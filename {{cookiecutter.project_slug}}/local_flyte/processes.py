"""Child processes that replace containers. One Python environment replaces the image."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

SITE = Path(__file__).parent / "container"  # contains sitecustomize.py
DONE = {0, -signal.SIGABRT}
"""Exit codes that mean success. On a busy machine, the SDK's HTTP client (pyqwest 0.12) aborts
about 1 in 50 processes with SIGABRT while Python exits."""


class Containers:
    """Starts programs of one Python environment.

    The programs do not inherit the environment variables of this process.
    """

    def __init__(self, programs: Path, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._environment = {
            "HOME": str(home),
            "PATH": f"{programs}{os.pathsep}{os.defpath}",
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(SITE),
            "PYTHONUNBUFFERED": "1",  # log lines must arrive at once
            "DO_NOT_TRACK": "1",  # otherwise the SDK sends error reports to the internet
            "FSSPEC_FILE_AUTO_MKDIR": "true",  # create missing folders
        }
        self._starter: tuple[socket.socket, subprocess.Popen[bytes]] | None = None

    def close(self) -> None:
        """Stop the starter process. Before the call, all programs must have ended."""
        if self._starter is not None:
            self._starter[0].close()
            self._starter[1].wait()

    async def run(
        self,
        command: Sequence[str],
        *,
        directory: Path,
        environment: Mapping[str, str],
        started: Callable[[], None],
        output: Callable[[str], None],
    ) -> int:
        """Run a program of the Python environment, and return the exit code.

        ``output`` receives each line, with the line break. The starter kills the remaining
        processes of the program when the program exits, when this call is cancelled, or when this
        process ends.
        """
        ours, theirs = socket.socketpair()
        output_reader, output_writer = os.pipe()
        with theirs, os.fdopen(output_writer, "wb", buffering=0):
            socket.send_fds(self._control(), [b"1"], [output_writer, theirs.fileno()])
        reading = asyncio.create_task(_read(output_reader, output))
        try:
            reader, writer = await asyncio.open_connection(sock=ours)
            with contextlib.closing(writer):
                request = [command, str(directory), {**self._environment, **environment}]
                writer.write(json.dumps(request).encode() + b"\n")
                await reader.readline()
                started()
                code = int(await reader.readline() or -signal.SIGKILL)
                await asyncio.wait({reading}, timeout=1)  # child processes may keep the pipe open
                return code
        finally:
            while not reading.done():  # do not stop at a second cancellation
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({reading})

    def _control(self) -> socket.socket:
        """Return the connection to the starter process. The first call starts the process."""
        if self._starter is None:
            ours, theirs = socket.socketpair()
            with theirs:
                process = subprocess.Popen(
                    ["python", SITE / "starter.py", str(theirs.fileno())],
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,  # Ctrl-C must not reach the starter
                )
            self._starter = ours, process
        return self._starter[0]


def substituted(text: str, values: Mapping[str, str]) -> str:
    """Replace Flyte's template variables, such as ``.runName`` in double braces."""
    return re.sub(r"\{\{\.(\w+)\}\}", lambda match: values.get(match[1], match[0]), text)


async def _read(pipe: int, output: Callable[[str], None]) -> None:
    stream = asyncio.StreamReader(limit=sys.maxsize)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(pipe, "rb", buffering=0)
    )
    while line := await stream.readline():
        output(line.decode(errors="replace"))

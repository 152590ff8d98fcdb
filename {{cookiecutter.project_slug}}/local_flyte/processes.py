"""Child processes in place of containers, started as on a machine that has only the image."""

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

SITE = Path(__file__).parent / "container"  # has Python's own start-up code for a container
DONE = {0, -signal.SIGABRT}
"""Exit codes of the SDK's programs that have done their work. Their HTTP client sometimes aborts
the process while Python exits: about 1 in 50 times on a busy machine, with pyqwest 0.12."""


class Containers:
    """Starts processes with the programs of one Python environment, which inherit nothing."""

    def __init__(self, programs: Path, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._environment = {
            "HOME": str(home),
            "PATH": f"{programs}{os.pathsep}{os.defpath}",
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(SITE),
            "PYTHONUNBUFFERED": "1",  # so that logs arrive at once
            "DO_NOT_TRACK": "1",  # the SDK would send error reports to the internet
            "FSSPEC_FILE_AUTO_MKDIR": "true",  # object stores need no folders; this one does
        }
        self._starter: tuple[socket.socket, subprocess.Popen[bytes]] | None = None

    def close(self) -> None:
        """End the process that starts others, if there is one. Nothing else runs any more."""
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
        """Run a program of the Python environment to its end, and return its exit code.

        ``output`` gets each line, line break included. When it exits, or this is cancelled, or this
        process ends, it and all of its child processes are killed.
        """
        told, theirs = socket.socketpair()
        ours, output_end = os.pipe()
        with theirs, os.fdopen(output_end, "wb", buffering=0):
            socket.send_fds(self._control(), [b"1"], [output_end, theirs.fileno()])
        reading = asyncio.create_task(_read(ours, output))
        try:
            answers, request = await asyncio.open_connection(sock=told)
            with contextlib.closing(request):
                asked = [command, str(directory), {**self._environment, **environment}]
                request.write(json.dumps(asked).encode() + b"\n")
                await answers.readline()
                started()
                code = int(await answers.readline() or -signal.SIGKILL)
                await asyncio.wait({reading}, timeout=1)  # child processes may keep it open
                return code
        finally:
            while not reading.done():  # even when cancelled again
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({reading})

    def _control(self) -> socket.socket:
        """Return the connection to the process that starts others, which is started when needed."""
        if self._starter is None:
            ours, theirs = socket.socketpair()
            with theirs:
                process = subprocess.Popen(
                    ["python", SITE / "starter.py", str(theirs.fileno())],
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,  # Ctrl-C does not reach it
                )
            self._starter = ours, process
        return self._starter[0]


def substituted(text: str, values: Mapping[str, str]) -> str:
    """Fill in Flyte's variables, such as ``.runName`` in double braces."""
    return re.sub(r"\{\{\.(\w+)\}\}", lambda found: values.get(found[1], found[0]), text)


async def _read(pipe: int, output: Callable[[str], None]) -> None:
    stream = asyncio.StreamReader(limit=sys.maxsize)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(pipe, "rb", buffering=0)
    )
    while line := await stream.readline():
        output(line.decode(errors="replace"))

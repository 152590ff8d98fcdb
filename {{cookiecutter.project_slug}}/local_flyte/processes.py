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

AT_START = ("LANG", "LC_", "LD_", "PATH", "PROTOCOL_BUFFERS", "PYTHON", "TZ")
"""How variables begin that a process reads when it starts, so that a fork would ignore them."""


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
        }
        self._forking: tuple[socket.socket, subprocess.Popen[bytes]] | None = None

    def close(self) -> None:
        """End the process that forks, if there is one. Nothing else runs any more."""
        if self._forking is not None:
            self._forking[0].close()
            self._forking[1].wait()

    async def run(
        self,
        command: Sequence[str],
        *,
        directory: Path,
        environment: Mapping[str, str],
        started: Callable[[], None],
        output: Callable[[str], None],
        grace_seconds: float = 0,
    ) -> int:
        """Run a program of the Python environment to its end, and return its exit code.

        ``output`` gets each line, line break included. When it exits, or this is cancelled, all of
        its child processes are ended, too; when cancelled, the grace seconds after a SIGTERM.
        """
        # Other systems' libraries must not be used in a fork.
        forks = command[0] == "a0" and sys.platform == "linux"
        start_anew = any(name.startswith(AT_START) for name in environment)
        start = self._fork if forks and not start_anew else _start
        ours, output_end = os.pipe()
        variables = {**self._environment, **environment}
        reader = asyncio.create_task(_read(ours, output))
        try:
            with os.fdopen(output_end, "wb", buffering=0):
                leader, ended = await start(command, str(directory), variables, output_end)
        except BaseException:
            await reader
            raise
        started()
        try:
            code = await asyncio.shield(ended)
            # Child processes may keep the pipe open.
            await asyncio.wait({reader}, timeout=1)
            return code
        finally:
            try:
                if not ended.done() and grace_seconds:
                    _signal_group(leader, signal.SIGTERM)
                    await asyncio.wait({ended}, timeout=grace_seconds)
            finally:  # even when cancelled again
                if not (ended.done() and reader.done()):
                    _signal_group(leader, signal.SIGKILL)
            await asyncio.wait({ended, reader})

    async def _fork(
        self, command: Sequence[str], directory: str, variables: Mapping[str, str], output: int
    ) -> tuple[int, asyncio.Task[int]]:
        """Start ``a0`` in a fork of a process that has imported most of what it needs."""
        loop = asyncio.get_running_loop()
        leader: asyncio.Future[int] = loop.create_future()
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._forker(), [b"1"], [output, theirs.fileno()])

        async def follow() -> int:
            try:
                with ours:
                    ours.setblocking(False)
                    request = json.dumps([command, directory, {**variables}])
                    await loop.sock_sendall(ours, request.encode() + b"\n")
                    if not (number := await loop.sock_recv(ours, 8)):
                        raise ChildProcessError("the process that starts actions has ended")
                    leader.set_result(int(number))
                    return int(await loop.sock_recv(ours, 8) or -signal.SIGKILL)
            finally:
                leader.cancel()  # unless it is known

        ended = asyncio.create_task(follow())
        try:
            await asyncio.wait({leader})
        except asyncio.CancelledError:
            while not leader.done():  # even when cancelled again
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({leader})
            if not leader.cancelled():
                _signal_group(leader.result(), signal.SIGKILL)
            await asyncio.wait({ended})
            raise
        if leader.cancelled():
            await ended
        return leader.result(), ended

    def _forker(self) -> socket.socket:
        """Return the connection to the process that forks, which is started when it is needed."""
        if self._forking is not None and self._forking[1].poll() is not None:  # somebody killed it
            self._forking[0].close()
            self._forking = None
        if self._forking is None:
            ours, theirs = socket.socketpair()
            with theirs:
                process = subprocess.Popen(
                    ["python", SITE / "forked_actions.py", str(theirs.fileno())],
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            self._forking = ours, process
        return self._forking[0]


async def _start(
    command: Sequence[str], directory: str, variables: Mapping[str, str], output: int
) -> tuple[int, asyncio.Task[int]]:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=directory,
        env=variables,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C does not reach it; killed as a group
    )
    return process.pid, asyncio.create_task(process.wait())


def substituted(text: str, values: Mapping[str, str]) -> str:
    """Fill in Flyte's variables, such as ``.runName`` in double braces."""
    return re.sub(r"\{\{\.(\w+)\}\}", lambda found: values.get(found[1], found[0]), text)


async def _read(pipe: int, output: Callable[[str], None]) -> None:
    stream, rest = asyncio.StreamReader(), b""
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(pipe, "rb", buffering=0)
    )
    while chunk := await stream.read(2**16):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            output(line.decode(errors="replace") + "\n")
    if rest:
        output(rest.decode(errors="replace"))


def _signal_group(leader: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, number)

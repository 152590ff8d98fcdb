"""Child processes: what a container would hold, started as on a machine that has only its image."""

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

PORT_MAPPING = "LOCAL_FLYTE_PORT_MAPPING"

SITE_CUSTOMIZE = f'''\
"""Runs at the start of every Python process that stands for a container."""
import os
import socket
import sys

# An editable install (what `pip install --editable` or `uv sync` makes of the project) puts the
# source tree on `sys.path`, or an import hook for it on `sys.meta_path`. A container has neither,
# so code that was left out of the bundle must not be found by accident.
_installed = (sys.prefix, sys.base_prefix, __file__.rpartition("/")[0])
sys.path[:] = [entry for entry in sys.path if entry.startswith(_installed)]
sys.meta_path[:] = [hook for hook in sys.meta_path
                    if not getattr(hook, "__module__", "").startswith("__editable__")]

# Every container has all ports for itself. Here they share the machine's, and so the port that an
# app listens on inside is mapped to one outside, as a container runtime would. (The SDK serves apps
# on asyncio's own event loop; uvloop's would not ask Python for its sockets.)
if _mapping := os.environ.get("{PORT_MAPPING}"):
    _inside, _outside = map(int, _mapping.split(":"))

    class _MappedSocket(socket.socket):
        def bind(self, address):
            if isinstance(address, tuple) and address[1] == _inside:
                address = (address[0], _outside, *address[2:])
            super().bind(address)

    socket.socket = _MappedSocket
'''


class Containers:
    """Starts processes with the program files of one Python environment, and nothing else of ours.

    They get an environment of their own: the container's variables on top of the few that any
    container has. Nothing is inherited, no credentials in particular.
    """

    def __init__(self, programs: Path, home: Path) -> None:
        hooks = home / "site"
        hooks.mkdir(parents=True, exist_ok=True)
        (hooks / "sitecustomize.py").write_text(SITE_CUSTOMIZE)
        self._environment = {
            "HOME": str(home),
            "PATH": f"{programs}{os.pathsep}{os.defpath}",
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(hooks),
            "PYTHONUNBUFFERED": "1",  # so that logs arrive while they are news
            "PYTHONDONTWRITEBYTECODE": "1",
            "DO_NOT_TRACK": "1",  # the SDK's error reports would go out to the internet
        }

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
        """Run ``command`` to its end.

        Cancelling it ends the process with all its children; so does its own end.

        Args:
            command: Program, looked up in the Python environment, and arguments.
            directory: The working directory, which exists.
            environment: The container's variables.
            started: Called once the process runs.
            output: Called with each line of output, line break included.
            grace_seconds: How long it has to end by itself, after SIGTERM, when cancelled.

        Returns:
            The exit code.
        """
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=directory,
            env={**self._environment, **environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # a group of its own: Ctrl-C is for us, and we end it whole
        )
        started()
        reader = asyncio.create_task(_read(cast("asyncio.StreamReader", process.stdout), output))
        try:
            code = await process.wait()
            # What the process left behind may hold the pipe open.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(reader), timeout=1)
            return code
        finally:
            try:
                if process.returncode is None and grace_seconds:
                    _signal_group(process.pid, signal.SIGTERM)
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(process.wait(), grace_seconds)
            finally:  # even when cancelled once more
                if process.returncode is None or not reader.done():
                    _signal_group(process.pid, signal.SIGKILL)
            await process.wait()
            await reader


def substituted(text: str, values: Mapping[str, str]) -> str:
    """Fill in the variables, such as ``.runName`` in double braces, that Flyte knows at launch."""
    return re.sub(r"\{\{\.(\w+)\}\}", lambda found: values.get(found[1], found[0]), text)


async def _read(stream: asyncio.StreamReader, output: Callable[[str], None]) -> None:
    rest = b""
    while chunk := await stream.read(2**16):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            output(line.decode(errors="replace") + "\n")
    if rest:
        output(rest.decode(errors="replace"))


def _signal_group(leader: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, number)

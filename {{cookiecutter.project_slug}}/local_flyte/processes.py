"""Child processes in place of containers, started as on a machine that has only the image."""

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

SITE = Path(__file__).parent / "container"
"""A folder with Python's own start-up code for a container."""


DONE = {0, -signal.SIGABRT}
"""Exit codes of the SDK's programs that have done their work. Their HTTP client sometimes aborts
the process while Python exits: about 1 in 50 times on a busy machine, with pyqwest 0.12."""


class Containers:
    """Starts processes with the programs of one Python environment, isolated from this process.

    Their environment consists of the container's variables and the few that any container has. They
    inherit nothing, in particular no credentials.
    """

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

        When it is cancelled, or the process exits, all child processes are ended, too.

        Args:
            command: Program, looked up in the Python environment, and arguments.
            directory: The working directory, which exists.
            environment: The container's variables.
            started: Called once the process runs.
            output: Called with each line of output, line break included.
            grace_seconds: The time it has to exit after SIGTERM, when cancelled.

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
            start_new_session=True,  # Ctrl-C does not reach it; killed as a group
        )
        started()
        reader = asyncio.create_task(_read(cast("asyncio.StreamReader", process.stdout), output))
        try:
            code = await process.wait()
            # Child processes may keep the pipe open.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(reader), timeout=1)
            return code
        finally:
            try:
                if process.returncode is None and grace_seconds:
                    _signal_group(process.pid, signal.SIGTERM)
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(process.wait(), grace_seconds)
            finally:  # even when cancelled again
                if process.returncode is None or not reader.done():
                    _signal_group(process.pid, signal.SIGKILL)
            await process.wait()
            await reader


def substituted(text: str, values: Mapping[str, str]) -> str:
    """Fill in Flyte's variables, such as ``.runName`` in double braces."""
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

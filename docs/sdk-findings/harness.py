"""Environment of a reproduction: the SDK, initialised as in an app, and two control planes.

Calls are made as alice. ``plane`` has TLS and passthrough authentication; ``plain`` has no TLS.
Importing this module starts both until the process ends, and changes to an empty folder. Install
flyte, trustme and uvicorn, then run ``python f01_stored_pickles.py``.
"""

import asyncio
import atexit
import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import flyte
from control_plane import ACTION, serving
from flyte import remote

__all__ = ["ACTION", "ALICE", "BOB", "plain", "plane", "until"]

ALICE = ("authorization", "Bearer of-alice")
BOB = ("authorization", "Bearer of-bob")


async def until(condition: Callable[[], object], seconds: float = 120) -> None:
    """Wait until a condition is true."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the control plane is in another thread
            await asyncio.sleep(0.02)


_process = ExitStack()
FOLDER = Path(_process.enter_context(tempfile.TemporaryDirectory()))
plane = _process.enter_context(serving(FOLDER, tls=True))
plain = _process.enter_context(serving(FOLDER, tls=False))
os.chdir(FOLDER)
flyte.init(
    endpoint=plane.endpoint,
    auth_type="Passthrough",
    ca_cert_file_path=f"{FOLDER}/ca.pem",
    image_builder="remote",
    org="o",
    project="p",
    domain="d",
)
_process.enter_context(remote.auth_metadata(ALICE))


@atexit.register
def _close() -> None:
    os.chdir("/")
    _process.close()

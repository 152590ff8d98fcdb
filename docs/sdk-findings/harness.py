"""What a reproduction has: the SDK, initialised as in an app, as alice, with two control planes.

``plane`` has TLS, and passthrough authentication; ``plain`` has no TLS. Importing this module starts
both, and changes to an empty folder, until the process ends. Flyte must be installed, with trustme
and uvicorn: ``python f01_stored_pickles.py``.
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
    """Wait for a condition."""
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

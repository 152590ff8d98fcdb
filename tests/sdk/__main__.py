"""Run a reproduction of docs/sdk-findings.md, from standard input, as alice.

The SDK has passthrough authentication to a control plane over TLS.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import flyte
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyte import remote
from flyteidl2.core import literals_pb2, types_pb2

from .control_plane import ACTION, serving

ALICE = ("authorization", "Bearer of-alice")
BOB = ("authorization", "Bearer of-bob")


async def until(condition: Callable[[], object], seconds: float = 120) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the control plane is in another thread
            await asyncio.sleep(0.02)


def main(code: str) -> None:
    """Run it, with all that the page says it has."""
    messages = {**vars(literals_pb2), **vars(types_pb2)}
    names = {name: each for name, each in messages.items() if name[0].isupper()}
    names |= {"ALICE": ALICE, "BOB": BOB, "ACTION": ACTION, "Code": Code, "until": until}
    names |= {"flyte": flyte, "remote": remote, "ConnectError": ConnectError}
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), tls=True) as plane,
        serving(Path(folder), tls=False) as plain,
    ):
        os.chdir(folder)
        flyte.init(
            endpoint=plane.endpoint,
            auth_type="Passthrough",
            ca_cert_file_path=f"{folder}/ca.pem",
            image_builder="remote",
            org="o",
            project="p",
            domain="d",
        )
        with remote.auth_metadata(ALICE):
            names |= {"plane": plane, "plain": plain, "__name__": "reproduction"}
            exec(compile(code, "sdk-findings.md", "exec"), names)
        os.chdir("/")


if __name__ == "__main__":
    main(sys.stdin.read())

"""Run the reproductions in docs/sdk-findings.md: ``python -m tests.sdk``; add a number for one."""

import asyncio
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "sdk-findings.md"

ALICE = ("authorization", "Bearer of-alice")
BOB = ("authorization", "Bearer of-bob")


@dataclass
class Finding:
    """A section of the page."""

    number: str
    title: str
    unnecessary: str
    """The parts of the template that are unnecessary once it is fixed."""
    code: str


def findings() -> list[Finding]:
    """Read the page."""
    found = []
    for section in re.split(r"^### ", PAGE.read_text("utf-8"), flags=re.MULTILINE)[1:]:
        number, title = section.partition("\n")[0].split(". ", 1)
        (code,) = re.findall(r"^```python\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
        (unnecessary,) = re.findall(
            r"\*\*Makes unnecessary:\*\* (.+?)\n(?:\n|$)", section, re.DOTALL
        )
        found.append(Finding(number, title, " ".join(unnecessary.split()), code))
    return found


def reproduce(finding: Finding) -> None:
    """Run a reproduction in a separate process.

    Raises:
        AssertionError: The SDK no longer behaves like this, or the reproduction is broken.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.sdk", "-"],
        input=finding.code,
        cwd=PAGE.parents[1],
        # Unless a reproduction changes it, the SDK sends no reports. It also checks for pytest.
        env={**os.environ, "DO_NOT_TRACK": "1", "PYTEST_CURRENT_TEST": ""},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, (
        f"finding {finding.number} is fixed, or its reproduction is broken. If it is fixed, this"
        f" can go: {finding.unnecessary}\n{done.stdout}{done.stderr}"
    )


async def until(condition: Callable[[], object], seconds: float = 120) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the control plane is in another thread
            await asyncio.sleep(0.02)


def run_here(code: str) -> None:
    """Run a reproduction as alice, with passthrough authentication to a control plane over TLS."""
    import flyte  # noqa: PLC0415 - slow, and only needed here
    from connectrpc.code import Code  # noqa: PLC0415
    from connectrpc.errors import ConnectError  # noqa: PLC0415
    from flyte import remote  # noqa: PLC0415
    from flyteidl2.core import literals_pb2, types_pb2  # noqa: PLC0415

    from . import control_plane  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        ca, key = control_plane.make_authority(Path(folder))
        with control_plane.serving(key) as plane, control_plane.serving(None) as plain:
            flyte.init(
                endpoint=plane.endpoint,
                auth_type="Passthrough",
                ca_cert_file_path=str(ca),
                image_builder="remote",
                org="o",
                project="p",
                domain="d",
            )
            names: dict[str, Any] = {"plane": plane, "plain": plain, "ALICE": ALICE, "BOB": BOB}
            for messages in (literals_pb2, types_pb2):
                names |= {n: each for n, each in vars(messages).items() if n[0].isupper()}
            names |= {"ACTION": control_plane.ACTION, "__name__": "reproduction"}
            names |= {"flyte": flyte, "remote": remote, "until": until}
            names |= {"Code": Code, "ConnectError": ConnectError}
            with remote.auth_metadata(ALICE):
                exec(compile(code, PAGE.name, "exec"), names)
        os.chdir("/")


def main(arguments: list[str]) -> None:
    """Run the given reproductions, or all."""
    if arguments == ["-"]:
        run_here(sys.stdin.read())
        return
    for finding in findings():
        if finding.number in (arguments or [finding.number]):
            print(f"{finding.number}. {finding.title}", flush=True)
            reproduce(finding)


if __name__ == "__main__":
    main(sys.argv[1:])

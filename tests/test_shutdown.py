"""SIGTERM with open requests and streams, for a deployed app."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from local_flyte import PEOPLE, LocalFlyte
from local_flyte.testing import wait_until
from passthrough.requests.stopping import COME_BACK

from .baking import Baker
from .served import TASKS

pytestmark = pytest.mark.slow

ALICE = {"Authorization": f"Bearer {PEOPLE['alice'].token}"}
OPEN = {"WatchActionDetails": 2, "TailLogs": 1, "UserInfo": 1}
"""The calls to Flyte that are open when the app gets the signal."""
PATIENT = {"DO_NOT_TRACK": "1", "FLYTE_TIMEOUT": "300"}
"""Variables with which the calls can be open together on a busy machine."""


def left(flyte: LocalFlyte) -> dict[str, int]:
    return {method: flyte.open_calls(method) for method in OPEN}


def long_run(url: str) -> str:
    """Start a run that does not end; return its name."""
    path = f"{url}/tasks/{TASKS}.count/runs"
    body = {"inputs": {"to": 10_000}}
    answer = httpx.post(path, json=body, headers=ALICE, timeout=60, trust_env=False)
    return str(answer.json()["name"])


async def read(client: httpx.AsyncClient, path: str) -> str:
    """Read an event stream to its end, which must be a proper one."""
    return (await client.get(path)).text


async def all_at_once(url: str, flyte: LocalFlyte, stop: Callable[[], None]) -> None:
    """Open all kinds of requests, stop the app, and check how each of them ends."""
    run = await asyncio.to_thread(long_run, url)
    async with httpx.AsyncClient(
        base_url=url, headers=ALICE, timeout=120, trust_env=False
    ) as client:
        streams = [
            asyncio.create_task(read(client, f"/runs/{run}/{kind}")) for kind in ("events", "logs")
        ]
        path = f"/tasks/{TASKS}.count/runs?wait=200"
        body = {"inputs": {"to": 10_000}}
        with flyte.hang("UserInfo"):
            short = asyncio.create_task(client.get("/me"))
            waiting = asyncio.create_task(client.post(path, json=body))
            await asyncio.to_thread(wait_until, lambda: left(flyte) == OPEN)
            stop()
            for stream in streams:
                assert (await stream).encode().endswith(COME_BACK)
            assert (await waiting).status_code == 201
            assert not short.done()
        assert (await short).json()["subject"] == PEOPLE["alice"].subject
    await asyncio.to_thread(wait_until, lambda: not any(left(flyte).values()))


def fserve(port: str) -> int:
    """Return the process that serves a deployed app on a port (Linux)."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            if b"fserve" in command and f"={port}\0".encode() in (folder / "environ").read_bytes():
                return int(folder.name)
        except OSError:
            continue
    raise AssertionError("there is no such process")


def test_short_requests_finish_and_streams_ask_to_reconnect(
    flyte: LocalFlyte, baker: Baker, tmp_path: Path
) -> None:
    project = baker(tmp_path)
    deployment = (project / "deployment.py").read_text("utf-8")
    patient = deployment.replace('"DO_NOT_TRACK": "1",', f"**{PATIENT},")
    assert patient != deployment
    (project / "deployment.py").write_text(patient, "utf-8")
    flyte.deploy(project, "deployment.py", "app_env")
    url = flyte.wait_app("my-flyte-app", seconds=300)
    app = fserve(url.rpartition(":")[2])
    asyncio.run(all_at_once(url, flyte, lambda: os.kill(app, signal.SIGTERM)))
    wait_until(lambda: not Path(f"/proc/{app}").exists())
    (deployed,) = flyte._services.apps._apps.values()
    log = "".join(deployed.log)
    assert "Traceback" not in log
    assert "Cancel" not in log
    flyte.reset()

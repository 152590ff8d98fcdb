"""SIGTERM with open requests and streams, for a deployed app."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from local_flyte import PEOPLE, LocalFlyte
from local_flyte.testing import client_of, wait_until
from passthrough.http.stopping import COME_BACK

from .baking import edit
from .served import TASKS

pytestmark = pytest.mark.slow

OPEN = {"WatchActions": 1, "WatchActionDetails": 1, "TailLogs": 1, "UserInfo": 1}
"""The calls to Flyte that are open when the app gets the signal."""
PATIENT = {"DO_NOT_TRACK": "1", "FLYTE_TIMEOUT": "300"}
"""Variables with which the calls can be open together on a busy machine."""


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
    flyte: LocalFlyte, project: Path
) -> None:
    def is_open(calls: dict[str, int]) -> bool:
        return {method: flyte.open_calls(method) for method in OPEN} == calls

    edit(project / "deployment.py", '"DO_NOT_TRACK": "1",', f"**{PATIENT},")
    flyte.deploy(project, "deployment.py", "app_env")
    url = flyte.wait_app("my-flyte-app", seconds=300)
    app = fserve(url.rpartition(":")[2])
    runs, body = f"/tasks/{TASKS}.count/runs", {"inputs": {"to": 10_000}}
    with client_of(url, "alice") as alice, ThreadPoolExecutor() as do, flyte.hang("UserInfo"):
        run = alice.post(runs, json=body).json()["name"]
        streams = [do.submit(alice.get, f"/runs/{run}/{kind}") for kind in ("events", "logs")]
        waiting = do.submit(alice.post, f"{runs}?wait=200", json=body)
        short = do.submit(alice.get, "/me")
        wait_until(lambda: is_open(OPEN))
        os.kill(app, signal.SIGTERM)
        for stream in streams:
            assert stream.result().content.endswith(COME_BACK)
        assert waiting.result().status_code == 201
        assert not short.done()
    assert short.result().json()["subject"] == PEOPLE["alice"].subject
    wait_until(lambda: is_open(dict.fromkeys(OPEN, 0)))
    wait_until(lambda: not Path(f"/proc/{app}").exists())
    (deployed,) = flyte._services.apps._apps.values()
    log = "".join(deployed.log)
    assert "Traceback" not in log
    assert "Cancel" not in log
    flyte.reset()

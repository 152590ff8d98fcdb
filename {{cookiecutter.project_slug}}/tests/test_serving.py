"""The ways to start the app: uvicorn, ``flyte serve --local``, and what stops it from starting."""

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from local_flyte import LocalFlyte

from .support import ROOT, authorization_of, needs, token_of, wait_until

BIN = Path(sys.executable).parent
APP = "app.main:app"


def free_port() -> int:
    """Ask the operating system for a port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def started(
    command: str, environment: dict[str, str], folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in a folder, its output to the file ``log``, until the end of the block."""
    with (
        (folder / "log").open("wb") as output,
        subprocess.Popen(
            shlex.split(f"{BIN}/{command}"),
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()


def answers(url: str) -> bool:
    """Tell whether somebody serves there."""
    try:
        return httpx.get(url, trust_env=False, timeout=60).status_code > 0
    except httpx.TransportError:
        return False


@needs("/me")
@pytest.mark.parametrize("how", ["uvicorn", "flyte serve"])
def test_the_app_starts_and_serves_its_caller(
    how: str, environment: dict[str, str], bob: httpx.Client, tmp_path: Path
) -> None:
    port = free_port()
    # ``flyte serve --local`` takes the port from the app environment, where it is fixed.
    elsewhere = tmp_path / "elsewhere.py"
    elsewhere.write_text(
        "import flyte.app\nfrom deployment import app_env\n"
        f"app_env.port = flyte.app.Port(port={port})\n"
    )
    config = tmp_path / "flyte.yaml"
    config.write_text("admin: {endpoint: 'dns:///127.0.0.1:1'}\n")  # for the command, not the app
    command = {
        "uvicorn": f"uvicorn {APP} --port {port}",
        "flyte serve": f"flyte --config {config} serve --local {elsewhere} app_env",
    }[how]
    url, log = f"http://127.0.0.1:{port}", tmp_path / "log"
    with started(command, environment, tmp_path) as process:
        wait_until(lambda: answers(url) or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        headers = {"Authorization": authorization_of("bob")}
        me = httpx.get(f"{url}/me", headers=headers, trust_env=False, timeout=60).json()
        assert me == bob.get("/me").json()
        assert httpx.get(f"{url}/me", trust_env=False, timeout=60).status_code == 401
    assert token_of("bob") not in log.read_text()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"FLYTE_ENDPOINT": "http://127.0.0.1:1"}, r"SettingsError: .*plaintext"),
        ({}, r"SettingsError: .*neither FLYTE_ENDPOINT"),
        ({"FLYTE_TIMEOUT": "-1"}, r"SettingsError: [^\n]*\n +FLYTE_TIMEOUT='-1': .*greater than 0"),
        (
            {"FLYTE_ENDPOINT": "dns:///127.0.0.1:1", "TRUSTED_ORIGINS": "https://*.example.com"},
            r"SettingsError: [^\n]*\n +TRUSTED_ORIGINS: ",
        ),
    ],
)
def test_an_app_that_cannot_work_does_not_start_and_says_why(
    environment: dict[str, str], message: str
) -> None:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("_U_")}
    result = subprocess.run(
        [BIN / "uvicorn", APP, "--port", "0"],
        cwd=ROOT,
        env={**bare, **environment},
        stdout=subprocess.PIPE,  # where the SDK prints what ended the process
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode != 0
    assert re.search(message, result.stdout)


@needs("/me")
def test_on_the_devbox_everybody_acts_as_nobody_once_the_owner_says_so(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    url = f"http://127.0.0.1:{port}"
    with LocalFlyte(plaintext=True, authorization=False) as devbox:
        environment = devbox.app_environment()
        assert environment["_U_INSECURE"] == "true"
        command = f"uvicorn {APP} --port {port}"
        with started(command, environment, tmp_path) as process:
            assert process.wait(60) != 0
        assert "ALLOW_ANONYMOUS" in log.read_text()
        with started(command, {**environment, "ALLOW_ANONYMOUS": "true"}, tmp_path) as process:
            wait_until(lambda: answers(url) or process.poll() is not None)
            for headers in ({}, {"Authorization": authorization_of("bob")}):
                me = httpx.get(f"{url}/me", headers=headers, trust_env=False, timeout=60).json()
                assert (me["anonymous"], me["subject"]) == (True, None)
            assert httpx.get(f"{url}/runs", trust_env=False, timeout=60).status_code == 200
            # Nobody's credentials are needed, but another site's page is none of the visitors.
            elsewhere = {"Origin": "https://elsewhere.example"}
            refused = httpx.post(
                f"{url}/runs/x/abort", headers=elsewhere, trust_env=False, timeout=60
            )
            assert refused.status_code == 403
    assert "every caller acts as nobody" in log.read_text()


@pytest.mark.parametrize("said", ["", "0"])
def test_the_sdk_reports_to_nobody_unless_the_owner_says_so(said: str) -> None:
    bare = {name: value for name, value in os.environ.items() if name != "DO_NOT_TRACK"}
    environment = {**bare, "FLYTE_ENDPOINT": "dns:///127.0.0.1:1"}
    if said:
        environment["DO_NOT_TRACK"] = said
    start = (
        "import asyncio, os; from app.flyte_client import connect; from app.settings import"
        " load_settings; asyncio.run(connect(load_settings())); print(os.environ['DO_NOT_TRACK'])"
    )
    result = subprocess.run(
        [sys.executable, "-c", start],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert result.stdout == f"{said or 1}\n"

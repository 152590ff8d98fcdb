"""Helpers to call the local Flyte: plain HTTP, and the real ``flyte`` command."""

import os
import ssl
import subprocess
import sys
from pathlib import Path

import httpx

from local_flyte import PEOPLE, LocalFlyte
from local_flyte.processes import DONE

PROJECT = {"name": "flytesnacks", "domain": "development"}


def call(
    flyte: LocalFlyte,
    method: str,
    body: object = None,
    *,
    person: str = "",
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    """Call a method, such as ``auth.IdentityService/UserInfo``, as a person or with headers."""
    credentials = {"Authorization": f"Bearer {PEOPLE[person].token}"} if person else {}
    return httpx.post(
        f"{flyte.url}/flyteidl2.{method}",
        json=body or {},
        headers=credentials | (headers or {}),
        verify=ssl.create_default_context(cafile=str(flyte.ca_file)),
        trust_env=False,
        timeout=60,
    )


def cli(flyte: LocalFlyte, *arguments: str) -> str:
    """Run the real ``flyte`` command as alice; return what it prints, or fail."""
    program = Path(sys.executable).with_name("flyte")
    plain = {"HOME": str(flyte.home), "DO_NOT_TRACK": "1", "TERM": "dumb", "FORCE_COLOR": ""}
    result = subprocess.run(
        [program, "--config", flyte.config_file("alice"), *arguments],
        env=os.environ | plain,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode in DONE, result.stdout + result.stderr
    return result.stdout

"""Helpers to call the local Flyte: plain HTTP, and the real ``flyte`` command."""

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx

from local_flyte import PEOPLE, LocalFlyte
from local_flyte.processes import DONE

PROJECT = {"name": "flytesnacks", "domain": "development"}


def post(
    flyte: LocalFlyte,
    method: str,
    content: bytes,
    headers: dict[str, str],
) -> httpx.Response:
    """Call a method, such as ``auth.IdentityService/UserInfo``, in the Connect protocol."""
    return httpx.post(
        f"{flyte.url}/flyteidl2.{method}",
        content=content,
        headers=headers,
        verify=ssl.create_default_context(cafile=str(flyte.ca_file)),
        trust_env=False,
        timeout=60,
    )


def call(
    flyte: LocalFlyte,
    method: str,
    body: object = None,
    *,
    person: str = "",
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    """Call a method with JSON, as a person or with these headers."""
    credentials = {"Authorization": f"Bearer {PEOPLE[person].token}"} if person else {}
    request = httpx.Request("POST", "https://any", json=body or {})
    json_type = {"Content-Type": "application/json"}
    return post(flyte, method, request.content, {**json_type, **credentials, **(headers or {})})


def parts(flyte: LocalFlyte, method: str, body: object, *, person: str) -> Iterator[bytes]:
    """Call a method that returns a stream, and yield what arrives."""
    message = json.dumps(body).encode()
    with httpx.stream(
        "POST",
        f"{flyte.url}/flyteidl2.{method}",
        content=b"\0" + len(message).to_bytes(4, "big") + message,  # flags, length
        headers={
            "Content-Type": "application/connect+json",
            "Authorization": f"Bearer {PEOPLE[person].token}",
        },
        verify=ssl.create_default_context(cafile=str(flyte.ca_file)),
        trust_env=False,
        timeout=300,
    ) as answer:
        yield from answer.iter_bytes()


def cli(flyte: LocalFlyte, *arguments: str, person: str = "alice") -> str:
    """Run the real ``flyte`` command as a person; return what it prints, or fail."""
    result = subprocess.run(
        [
            *(Path(sys.executable).with_name("flyte"), "--config", flyte.config_file(person)),
            *arguments,
        ],
        env={
            **os.environ,
            **{"HOME": str(flyte.home), "DO_NOT_TRACK": "1"},
            **{"TERM": "dumb", "FORCE_COLOR": ""},  # plain text
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode in DONE, result.stdout + result.stderr
    return result.stdout

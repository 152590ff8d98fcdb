"""Tests of the code in docs/copying-the-middleware.md."""

import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pages
import pytest
from template import ROOT

from local_flyte import LocalFlyte
from local_flyte.banner import flyte_banner
from local_flyte.processes import DONE  # the SDK sometimes aborts after its work
from local_flyte.testing import bearer
from passthrough.http.problems import STATUS_OF_CODE, STATUS_OF_SDK_ERROR

from .local_flyte.test_command import JOBS
from .walkthrough import code_blocks

PAGE = ROOT / "docs" / "copying-the-middleware.md"
SOURCE = ROOT / "{{cookiecutter.project_slug}}" / "passthrough"
VISIT = """
from fastapi.testclient import TestClient
from main import app

with TestClient(app) as client:
    print(*[client.get(path).status_code for path in ("/", "/health")])
import flyte.io
try:
    flyte.io.File(path="s3://bucket/file").download_sync()
except Exception as error:
    print(type(error).__name__)
"""


def visited(folder: Path, *arguments: str, **variables: str) -> list[str]:
    """Run Python in a folder without files of the template, and return the printed words."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), **variables}
    command = [sys.executable, "-W", "ignore", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode in DONE, done.stderr
    return done.stdout.split()


def test_copied_files_work_in_empty_project(tmp_path: Path) -> None:
    (package := tmp_path / "passthrough").mkdir()
    for name in pages.data("copying")["copies"]:
        if name.endswith("/"):
            shutil.copytree(SOURCE / name, package / name)
        else:
            shutil.copy(SOURCE / name, package)
    [code] = code_blocks(PAGE, "Patch the SDK, too", "python")
    (tmp_path / "main.py").write_text(code, "utf-8")
    printed = visited(tmp_path, "-c", VISIT, _U_EP_OVERRIDE="dns:///flyte.example.com")
    assert printed == ["401", "404", "NotForManyCallersError"]


COPIED_ALONE = """
from fastapi import FastAPI
from flyte import remote
from passthrough_auth import FastAPIPassthroughAuthMiddleware

app = FastAPI()
app.add_middleware(FastAPIPassthroughAuthMiddleware)

@app.get("/")
async def me():
    await connect()
    return (await remote.User.get.aio()).name()

@app.get("/runs")
async def runs():
    await connect()
    return [run.name async for run in remote.Run.listall.aio()]

@app.get("/runs/{name}")
async def run(name: str):
    await connect()
    return (await remote.Run.get.aio(name)).name

@app.post("/tasks/{name}")
async def start(name: str):
    await connect()
    return (await flyte.run.aio(remote.Task.get(name, auto_version="latest"), x=1)).name
"""
ASK = """
import sys
from fastapi.testclient import TestClient

with TestClient(app, raise_server_exceptions=False) as client:
    for method, path, authorization in zip(*[iter(sys.argv[1:])] * 3):
        response = client.request(method, path, headers={"Authorization": authorization})
        print(response.status_code)
"""


@pytest.fixture
def answers(local_flyte: LocalFlyte, tmp_path: Path) -> Callable[..., list[str]]:
    """Return a function that starts the copy as the page says, and returns statuses of requests."""
    shutil.copy(SOURCE / "passthrough_auth.py", tmp_path)
    [handler] = code_blocks(PAGE, "Replace the SDK's class", "python")
    [connect] = code_blocks(PAGE, "Try it on a local Flyte server", "python")
    (export,) = re.findall("^  export (.*)$", flyte_banner(local_flyte), re.MULTILINE)
    variables = dict(pair.split("=", 1) for pair in shlex.split(export))

    def ask(*requests: tuple[str, str, str], handled: bool = True) -> list[str]:
        program = [connect, COPIED_ALONE, handler if handled else "", ASK]
        (tmp_path / "main.py").write_text("\n".join(program), "utf-8")
        return visited(tmp_path, "main.py", *itertools.chain(*requests), **variables)

    return ask


def test_refused_token_without_exception_handler_is_500(answers: Callable[..., list[str]]) -> None:
    requests = [("GET", "/", bearer("alice")), ("GET", "/", "Bearer no-such-token")]
    assert answers(*requests, handled=False) == ["200", "500"]


def test_documented_handler_maps_flyte_codes_to_statuses(
    answers: Callable[..., list[str]], local_flyte: LocalFlyte, tmp_path: Path
) -> None:
    (tmp_path / "jobs.py").write_text(JOBS)
    local_flyte.deploy(tmp_path, "jobs.py", None)
    expected = {
        ("GET", "/", bearer("alice")): "200",
        ("GET", "/", "Bearer no-such-token"): "401",
        ("GET", "/runs", bearer("carol")): "403",
        ("POST", "/tasks/jobs.double", bearer("victor")): "403",
        ("GET", "/runs/none", bearer("alice")): "404",
        ("POST", "/tasks/none", bearer("alice")): "404",
        ("POST", "/tasks/jobs.double", bearer("alice")): "200",
    }
    assert dict(zip(expected, answers(*expected), strict=True)) == expected


def test_documented_status_codes_match_the_app() -> None:
    [handler] = code_blocks(PAGE, "Replace the SDK's class", "python")
    names: dict[str, Any] = {}
    exec(handler.partition("@app")[0], names)
    assert names["STATUS"] == STATUS_OF_CODE | STATUS_OF_SDK_ERROR

"""The code of docs/copying-the-middleware.md, as it stands."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pages
from template import ROOT

from local_flyte import LocalFlyte
from local_flyte.testing import bearer

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
    """Run Python in a folder without anything of the template; return the words it prints."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), **variables}
    command = [sys.executable, "-W", "ignore", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
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
import flyte
from fastapi import FastAPI
from flyte import remote
from passthrough_auth import FastAPIPassthroughAuthMiddleware

app = FastAPI()
app.add_middleware(FastAPIPassthroughAuthMiddleware)

@app.get("/")
async def me():
    await flyte.init_passthrough.aio(project="flytesnacks", domain="development")
    return (await remote.User.get.aio()).name()
"""
ASK = """
import sys
from fastapi.testclient import TestClient

with TestClient(app, raise_server_exceptions=False) as client:
    for who in sys.argv[1:]:
        print(client.get("/", headers={"Authorization": who}).status_code)
"""


def test_refused_token_is_401_with_documented_handler(
    local_flyte: LocalFlyte, tmp_path: Path
) -> None:
    """Without the handler of the page it is a 500."""
    shutil.copy(SOURCE / "passthrough_auth.py", tmp_path)
    [handler] = code_blocks(PAGE, "Replace the SDK's class", "python")
    program = [COPIED_ALONE, ASK, COPIED_ALONE, handler, ASK]
    (tmp_path / "main.py").write_text("\n".join(program), "utf-8")
    callers = (bearer("alice"), "Bearer no-such-token")
    environment = local_flyte.app_environment()
    assert visited(tmp_path, "main.py", *callers, **environment) == ["200", "500", "200", "401"]

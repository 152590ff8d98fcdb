"""Tests of the deployed app: content of the image, and graceful shutdown at SIGTERM."""

import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from local_flyte import PEOPLE, LocalFlyte
from local_flyte.testing import client_of, wait_until
from passthrough.http.response import SSE_RETRY

from .baking import BIN, edit, run

pytestmark = pytest.mark.slow

# Fake docker, which checks the arguments and runs `uv sync` of the Dockerfile.
DOCKER = r"""#!{python}
import os, re, shlex, shutil, subprocess, sys
from pathlib import Path

if sys.argv[1:3] == ["buildx", "imagetools"]:
    sys.exit("not found")  # the image, in the registry
if sys.argv[1:3] == ["buildx", "build"]:
    *options, context = sys.argv[3:]
    print("options of docker:", *options)
    context, build = Path(context), Path({build!r})
    lines = (context / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    for line in lines:
        if line.startswith("COPY ") and "--from=" not in line:
            for source in shlex.split(line)[1:-1]:
                assert source.startswith("--") or (context / source).exists(), line
    (sync,) = [line.removeprefix("RUN ") for line in lines if " uv sync " in line]
    for target, source in re.findall(r"--mount=type=bind,target=([^ ,]+),src=([^ ,]+)", sync):
        shutil.copy(context / source, build / target)
    environment = os.environ | {{"VIRTUAL_ENV": {image!r}}}
    command = re.sub(r"--mount=[^ ]+", "", sync)
    print("ran in the image:", *command.split())
    subprocess.run(command, shell=True, cwd=build, env=environment, check=True)
"""

TASKS = "/tasks/my-flyte-app-tasks"
OPEN = {"WatchActions": 2, "TailLogs": 1, "UserInfo": 1}
"""Calls to Flyte that are open when the app receives the signal."""
PATIENT = '"FLYTE_TIMEOUT": "300", "DO_NOT_TRACK": "1",'
"""Timeouts that keep all calls open on a busy machine."""


class Deployed(NamedTuple):
    flyte: LocalFlyte
    url: str
    image: Path
    printed: str


@pytest.fixture(scope="module")
def deployed(default_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """Deploy the app with `make deploy`; it runs with the packages of the image."""
    folder = tmp_path_factory.mktemp("deployed")
    image, tools, build = folder / "image", folder / "bin", folder / "build"
    run([BIN / "uv", "venv", "--quiet", "--python", sys.executable, image], folder)
    tools.mkdir()
    build.mkdir()
    docker = DOCKER.format(python=sys.executable, build=str(build), image=str(image))
    (tools / "docker").write_text(docker, "utf-8")
    (tools / "docker").chmod(0o755)
    project = shutil.copytree(default_project, folder / "project")
    edit(project / "deployment.py", '"DO_NOT_TRACK": "1",', PATIENT)
    (project / ".venv").symlink_to(sys.prefix)
    with LocalFlyte(app_bin=image / "bin") as flyte:
        config = flyte.config_file().read_text("utf-8")
        local = '"builder": "local", "registry": "registry.example/me"'
        (folder / "flyte.yaml").write_text(config.replace('"builder": "remote"', local), "utf-8")
        printed = run(
            ["make", "-o", ".venv/installed", "deploy"],
            project,
            PATH=f"{tools}:/usr/bin:/bin",  # uv is found although it is not on it
            HOME=str(folder),
            FLYTECTL_CONFIG=str(folder / "flyte.yaml"),
        )
        yield Deployed(flyte, flyte.wait_app("my-flyte-app"), image, printed)


def test_make_deploy_deploys_image_app_and_tasks(deployed: Deployed, default_project: Path) -> None:
    printed = deployed.printed
    tasks = (default_project / "app" / "tasks.py").read_text("utf-8")
    methods = [call.method for call in deployed.flyte.calls]
    assert methods.count("DeployTask") == tasks.count("\n@task_env.task")
    (command,) = re.findall(r"^\S*flyte deploy .*", printed, re.MULTILINE)
    readme = (default_project / "README.md").read_text("utf-8")
    assert f"`{command}`" in readme  # for use without make
    tag = r"--tag registry\.example/me/my-flyte-app:\w+"
    platform = "--platform linux/amd64,linux/arm64"
    assert re.search(rf"options of docker: .*{tag} {platform} --push$", printed, re.MULTILINE)
    assert re.search(r"ran in the image: .* --no-dev\b.* --no-install-project", printed)
    assert "Commit uv.lock" in printed
    assert re.search(r"^Address: https?://\S+$", printed.splitlines()[-1])
    installed = run([BIN / "uv", "pip", "list", "--python", deployed.image], default_project)
    assert "uvicorn" in installed
    assert not {"pytest", "mypy", "trustme"} & set(installed.split())


def test_app_and_tasks_run_in_image(deployed: Deployed) -> None:
    with client_of(deployed.url, "bob") as bob:
        name = {"inputs": {"name": "Ada"}}
        run_name = bob.post(f"{TASKS}.greet/runs?wait=200", json=name).json()["name"]
        assert bob.get(f"/runs/{run_name}/io").json()["outputs"] == {"o0": "Hello, Ada."}


def test_shutdown_finishes_requests_and_streams_reconnect(deployed: Deployed) -> None:
    flyte, program = deployed.flyte, deployed.image / "bin/fserve"
    app = int(run(["pgrep", "--full", program], deployed.image))

    def is_open(calls: dict[str, int]) -> bool:
        return {method: flyte.open_calls(method) for method in OPEN} == calls

    runs, body = f"{TASKS}.count/runs", {"inputs": {"to": 10_000}}
    with (
        client_of(deployed.url, "alice") as alice,
        ThreadPoolExecutor() as do,
        flyte.hang("UserInfo"),
    ):
        run_name = alice.post(runs, json=body).json()["name"]
        streams = [do.submit(alice.get, f"/runs/{run_name}/{kind}") for kind in ("events", "logs")]
        waiting = do.submit(alice.post, f"{runs}?wait=200", json=body)
        short = do.submit(alice.get, "/me")
        try:
            wait_until(lambda: is_open(OPEN))
        finally:  # or the streams, and so this test, would never end
            os.kill(app, signal.SIGTERM)
        for stream in streams:
            assert stream.result().content.endswith(SSE_RETRY)
        assert waiting.result().status_code == 201
        assert not short.done()
    assert short.result().json()["subject"] == PEOPLE["alice"].subject
    wait_until(lambda: is_open(dict.fromkeys(OPEN, 0)))
    wait_until(lambda: not Path(f"/proc/{app}").exists())
    (only,) = flyte._services.apps._apps.values()
    log = "".join(only.log)
    assert "Traceback" not in log
    assert "Cancel" not in log

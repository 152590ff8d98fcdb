"""The app's image contains everything that the app needs, and nothing else."""

import re
import sys
from pathlib import Path

import httpx
import pytest

from local_flyte import PEOPLE, LocalFlyte

from .baking import run

pytestmark = pytest.mark.slow

# A stand-in for docker: checks its arguments, and really runs the Dockerfile's `uv sync`.
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


def test_the_deployed_app_and_its_tasks_run_on_what_docker_installs(
    project: Path, tmp_path: Path
) -> None:
    image = tmp_path / "image"
    uv = [sys.executable, "-m", "uv"]
    run([*uv, "venv", "--quiet", "--python", sys.executable, image], project)
    tools, build = tmp_path / "bin", tmp_path / "build"
    tools.mkdir()
    build.mkdir()
    docker = DOCKER.format(python=sys.executable, build=str(build), image=str(image))
    (tools / "docker").write_text(docker, "utf-8")
    (tools / "docker").chmod(0o755)
    (project / ".venv").symlink_to(sys.prefix)
    headers = {"Authorization": f"Bearer {PEOPLE['bob'].token}"}
    with LocalFlyte(app_bin=image / "bin") as flyte:
        config = flyte.config_file().read_text("utf-8")
        local = '"builder": "local", "registry": "registry.example/me"'
        (tmp_path / "flyte.yaml").write_text(config.replace('"builder": "remote"', local), "utf-8")
        printed = run(
            ["make", "-o", ".venv/installed", "deploy"],
            project,
            PATH=f"{tools}:/usr/bin:/bin",  # uv is found although it is not on it
            HOME=str(tmp_path),
            FLYTECTL_CONFIG=str(tmp_path / "flyte.yaml"),
        )
        methods = [call.method for call in flyte.calls]
        url = flyte.wait_app("my-flyte-app")
        with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=60) as bob:
            inputs = {"inputs": {"name": "Ada"}}
            run_ = bob.post("/tasks/my-flyte-app-tasks.greet/runs", json=inputs).json()
            bob.get(f"/runs/{run_['name']}/events")  # until it has ended
            assert bob.get(f"/runs/{run_['name']}/io").json()["outputs"] == {"o0": "Hello, Ada."}
    tasks = (project / "app" / "tasks.py").read_text("utf-8")
    assert methods.count("DeployTask") == tasks.count("\n@task_env.task")
    (command,) = re.findall(r"^\S*flyte deploy .*", printed, re.MULTILINE)
    assert f"`{command}`" in (project / "README.md").read_text("utf-8")  # for use without make
    tag = r"--tag registry\.example/me/my-flyte-app:\w+"
    platform = "--platform linux/amd64,linux/arm64"
    assert re.search(rf"options of docker: .*{tag} {platform} --push$", printed, re.MULTILINE)
    assert re.search(r"ran in the image: .* --no-dev\b.* --no-install-project", printed)
    assert "Commit uv.lock" in printed
    assert re.search(r"^Address: https?://\S+$", printed.splitlines()[-1])
    installed = run([*uv, "pip", "list", "--python", image], project)
    assert "uvicorn" in installed
    assert not {"pytest", "mypy", "trustme"} & set(installed.split())

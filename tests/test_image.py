"""What the app's image would hold is enough for the app, and no more than it needs."""

import os
import sys
from pathlib import Path

import pytest

from .baking import Baker, run

pytestmark = pytest.mark.slow

# Run in the environment of a developer; the app is served from the other one.
SERVE = """
import sys
from pathlib import Path

import httpx
from local_flyte import PEOPLE, LocalFlyte

with LocalFlyte(app_bin=Path(sys.argv[1])) as local_flyte:
    local_flyte.deploy(Path.cwd(), env="app_env")
    url = local_flyte.wait_app("my-flyte-app")
    for name in ("alice", "bob"):
        headers = {"Authorization": f"Bearer {PEOPLE[name].token}"}
        answer = httpx.get(f"{url}/me", headers=headers, trust_env=False, timeout=60).json()
        assert answer["subject"] == PEOPLE[name].subject, answer
    headers = {"Authorization": f"Bearer {PEOPLE['bob'].token}"}
    runs = f"{url}/tasks/my-flyte-app-tasks.greet/runs"
    with httpx.Client(headers=headers, trust_env=False, timeout=60) as bob:
        run = bob.post(runs, json={"inputs": {"name": "Ada"}}).json()
        bob.get(f"{url}/runs/{run['name']}/events")  # until it has ended
        data = bob.get(f"{url}/runs/{run['name']}/io").json()
    assert data["outputs"] == {"o0": "Hello, Ada."}, data
"""


def test_the_deployed_app_and_its_tasks_run_on_what_the_image_installs(
    baker: Baker, environment: Path, tmp_path: Path
) -> None:
    project, image = baker(tmp_path), tmp_path / "image"
    uv = [sys.executable, "-m", "uv"]
    run([*uv, "venv", "--quiet", "--python", sys.executable, image], project)
    # What the SDK's image builder runs for an image with `with_uv_project`, in a copy of the one
    # file that it is given; `--no-dev` comes from the project's image.py.
    assert 'extra_args="--no-dev"' in (project / "app" / "image.py").read_text("utf-8")
    build = tmp_path / "build"
    build.mkdir()
    (build / "pyproject.toml").write_bytes((project / "pyproject.toml").read_bytes())
    sync = ["sync", "--quiet", "--active", "--inexact", "--no-dev", "--no-install-project"]
    run([*uv, *sync], build, VIRTUAL_ENV=str(image))

    installed = run([*uv, "pip", "list", "--python", image], project)
    assert "uvicorn" in installed
    assert not {"pytest", "mypy", "trustme", "nox"} & set(installed.split())

    python = environment / "bin" / "python"
    run([python, "-c", SERVE, image / "bin"], project, PYTHONPATH=os.fspath(project))

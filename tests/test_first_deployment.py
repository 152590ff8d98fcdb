"""The first deployment, on a PATH with only the project's own tools, and what may stop it."""

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from local_flyte import LocalFlyte

from .baking import BIN, Baker, clean_environment, run

pytestmark = pytest.mark.slow

BARE = "/usr/bin:/bin"


def test_the_image_is_built_and_everything_deployed(baker: Baker, tmp_path: Path) -> None:
    project = baker(tmp_path)
    (project / ".venv").symlink_to(sys.prefix)
    with LocalFlyte(builds_images=True) as flyte:
        variables = {"HOME": str(tmp_path), "FLYTECTL_CONFIG": str(flyte.config_file())}
        deploy = ["make", "-o", ".venv/installed", "deploy"]
        printed = run(deploy, project, PATH=BARE, **variables)
        methods = [call.method for call in flyte.calls]
    command, *_ = printed.splitlines()
    assert f"`{command}`" in (project / "README.md").read_text("utf-8")  # for use without make
    assert "Build completed" in printed
    assert methods.index("GetImage") < methods.index("CreateRun") < methods.index("Create")
    tasks = (project / "app" / "tasks.py").read_text("utf-8")
    assert methods.count("DeployTask") == tasks.count("\n@task_env.task")


DOCKER = """#!/bin/sh
case "$*" in
    *imagetools*) echo not found >&2; exit 1 ;;
    *"buildx build"*) echo denied >&2; exit 1 ;;
esac
"""
REMOTE = '"builder": "remote"'


class Trouble(NamedTuple):
    """A row of the table in docs/deploying.md, and what is wrong."""

    message: str
    kind: Mapping[str, Any] = MappingProxyType({})
    change: tuple[str, str] = ("", "")
    """What to replace in the config, and by what."""
    tools: tuple[str, ...] = ("uv",)
    person: str = "alice"
    environment: Mapping[str, str] = MappingProxyType({})


OPEN_SOURCE: dict[str, Any] = {"authorization": False, "builds_images": True}
PUSHED = (REMOTE, '"builder": "local", "registry": "registry.example/me"')
UNAVAILABLE = "Initialization failed ... Service is unavailable"
TROUBLES = [
    Trouble("remote image builder is not enabled", OPEN_SOURCE),
    Trouble("Build failed in ... at ...", {"builds_images": True, "app_bin": Path("/none")}),
    Trouble("assuming it exists", OPEN_SOURCE, PUSHED),
    Trouble(
        "no container registry is configured to push to",
        OPEN_SOURCE,
        (REMOTE, '"builder": "local"'),
        ("uv", "docker"),
    ),
    Trouble("`docker` ... returned non-zero exit status", OPEN_SOURCE, PUSHED, ("uv", "docker")),
    Trouble("permission denied for ... project ... domain", person="victor"),
    Trouble("project ... not found", change=("flytesnacks", "elsewhere")),
    Trouble(UNAVAILABLE, change=("127.0.0.1:", '127.0.0.1:1", "other": "')),
    Trouble(UNAVAILABLE, change=('"caCertFilePath"', '"other"')),
    Trouble(
        "Initialization failed ... Client has not been initialized",
        environment={"FLYTECTL_CONFIG": ""},
    ),
    Trouble("cannot start with these environment variables", environment={"FLYTE_TIMEOUT": "-1"}),
]


def test_each_row_of_the_table_of_troubles_is_tried(default_project: Path) -> None:
    section = (default_project / "docs" / "deploying.md").read_text("utf-8").split("\n## ")[1]
    rows = re.findall(r"^\| (.*?) \|", section, re.MULTILINE)
    assert rows == ["message", *dict.fromkeys(each.message for each in TROUBLES)]


@pytest.mark.weekly
@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.message)
def test_the_message_is_as_in_the_table(
    trouble: Trouble, default_project: Path, tmp_path: Path
) -> None:
    tools, config = tmp_path / "bin", tmp_path / "flyte.yaml"
    tools.mkdir()
    docker, uv, cat = tmp_path / "docker", BIN / "uv", shutil.which("cat") or ""
    docker.write_text(DOCKER, "utf-8")
    docker.chmod(0o755)
    for tool in (*(each for each in (docker, uv) if each.name in trouble.tools), Path(cat)):
        (tools / tool.name).symlink_to(tool)
    variables = {"PATH": str(tools), "UV_PYTHON": sys.executable, "HOME": str(tmp_path)}
    variables |= {"FLYTECTL_CONFIG": str(config), **trouble.environment}
    with LocalFlyte(**trouble.kind) as flyte:
        known = flyte.config_file(trouble.person).read_text("utf-8")
        config.write_text(known.replace(*trouble.change), "utf-8")
        done = subprocess.run(
            [BIN / "flyte", "deploy", "deployment.py", "app_env"],
            cwd=shutil.copytree(default_project, tmp_path / "project"),
            env=clean_environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            check=False,
        )
    printed = re.sub(r"[\s│]+", " ", done.stdout)
    parts = [re.escape(part.strip()) for part in trouble.message.replace("`", "").split("...")]
    assert re.search(".*".join(parts), printed.replace("`", "")), printed

"""What may stop the first deployment: the table in docs/deploying.md."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from local_flyte import Code, LocalFlyte, Mode

from .baking import BIN, clean_environment
from .image_builder import deploy_builder

pytestmark = pytest.mark.slow

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
    prepare: Callable[[LocalFlyte], None] = lambda _: None
    change: tuple[str, str] = ("", "")
    """What to replace in the config, and by what."""
    tools: tuple[str, ...] = ("uv",)
    person: str = "alice"
    environment: Mapping[str, str] = MappingProxyType({})


def build_fails(flyte: LocalFlyte) -> None:
    deploy_builder(flyte)
    flyte.fail_next("GetImage", Code.NOT_FOUND, times=9)


OPEN_SOURCE: dict[str, Any] = {"mode": Mode.OPEN_SOURCE}
PUSHED = (REMOTE, '"builder": "local", "registry": "registry.example/me"')
WITHOUT_DOCKER_IO = {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
UNAVAILABLE = "Initialization failed ... Service is unavailable"
TROUBLES = [
    Trouble("remote image builder is not enabled", OPEN_SOURCE),
    Trouble("Build failed in ... at ...", prepare=build_fails),
    Trouble(
        "All checkers failed to check existence of ... assuming it exists",
        OPEN_SOURCE,
        change=PUSHED,
        environment=WITHOUT_DOCKER_IO,
    ),
    Trouble(
        "no container registry is configured to push to",
        OPEN_SOURCE,
        change=(REMOTE, '"builder": "local"'),
        tools=("uv", "docker"),
    ),
    Trouble(
        "`docker` ... returned non-zero exit status",
        OPEN_SOURCE,
        change=PUSHED,
        tools=("uv", "docker"),
    ),
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
    page = (default_project / "docs" / "deploying.md").read_text("utf-8")
    section = page.split("\n## If the first deployment fails\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.*?) \|", section, re.MULTILINE)
    assert rows == ["message", *dict.fromkeys(each.message for each in TROUBLES)]


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(
            each,
            id=each.message,
            marks=() if each.environment is WITHOUT_DOCKER_IO else pytest.mark.weekly,
        )
        for each in TROUBLES
    ],
)
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
        trouble.prepare(flyte)
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


def test_make_deploy_says_first_that_there_is_no_config(
    default_project: Path, tmp_path: Path
) -> None:
    project = shutil.copytree(default_project, tmp_path / "project")
    command = ["make", "-o", ".venv/installed", f"BIN={BIN}", "deploy"]
    environment = clean_environment(HOME=str(tmp_path))
    ended = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode != 0
    assert ended.stderr.startswith("There is no config of the flyte command. Create .flyte/config")
    assert "flyte deploy" not in ended.stdout
    assert not (project / "uv.lock").exists()

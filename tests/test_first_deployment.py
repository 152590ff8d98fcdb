"""Tests of the troubleshooting table in docs/deploying.md."""

import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pages
import pytest

from local_flyte import LocalFlyte, Mode

from .baking import BIN, ended

pytestmark = pytest.mark.slow


class Trouble(NamedTuple):
    """A row of the table in docs/deploying.md, and how to cause the error."""

    message: str
    mode: Mode = Mode.UNION
    change: tuple[str, str] = ("", "")  # replacements in the config file
    environment: Mapping[str, str] = MappingProxyType({})


PUSHED = ('"builder": "remote"', '"builder": "local", "registry": "registry.example/me"')
WITHOUT_DOCKER_IO = {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
UNAVAILABLE = "Initialization failed ... Service is unavailable"
TROUBLES = [
    Trouble("remote image builder is not enabled", Mode.DEVBOX),
    Trouble(
        "All checkers failed to check existence of ... assuming it exists",
        Mode.DEVBOX,
        PUSHED,
        environment=WITHOUT_DOCKER_IO,
    ),
    Trouble(UNAVAILABLE, change=("127.0.0.1:", '127.0.0.1:1", "other": "')),
    Trouble(UNAVAILABLE, change=('"caCertFilePath"', '"other"')),
    Trouble(
        "Initialization failed ... Client has not been initialized",
        environment={"FLYTECTL_CONFIG": ""},
    ),
    Trouble("cannot start with these environment variables", environment={"FLYTE_TIMEOUT": "-1"}),
]


def test_each_troubleshooting_row_has_a_test_case() -> None:
    rows = [row["message"] for row in pages.data("first_deployment")["rows"]]
    assert rows == [*dict.fromkeys(trouble.message for trouble in TROUBLES)]


@pytest.mark.weekly
@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.message)
def test_deploy_error_matches_troubleshooting_table(
    trouble: Trouble, project: Path, tmp_path: Path
) -> None:
    tools, config = tmp_path / "bin", tmp_path / "flyte.yaml"
    tools.mkdir()
    for tool in ("uv", "cat"):
        (tools / tool).symlink_to(shutil.which(tool, path=f"{BIN}:/usr/bin:/bin") or "")
    variables = {"PATH": str(tools), "UV_PYTHON": sys.executable, "HOME": str(tmp_path)}
    variables |= {"FLYTECTL_CONFIG": str(config), **trouble.environment}
    with LocalFlyte(mode=trouble.mode) as flyte:
        config_text = flyte.config_file().read_text("utf-8")
        config.write_text(config_text.replace(*trouble.change), "utf-8")
        done = ended([BIN / "flyte", "deploy", "deployment.py", "app_env"], project, **variables)
    printed = re.sub(r"[\s│]+", " ", done.stdout)
    parts = [re.escape(part.strip()) for part in trouble.message.split("...")]
    assert re.search(".*".join(parts), printed), printed


def test_make_deploy_without_config_is_refused(project: Path, tmp_path: Path) -> None:
    command = ["make", "-o", ".venv/installed", f"BIN={BIN}", "deploy"]
    done = ended(command, project, HOME=str(tmp_path))
    assert done.returncode != 0
    assert done.stdout.startswith("There is no config of the flyte command. Create .flyte/config")
    assert "flyte deploy" not in done.stdout
    assert not (project / "uv.lock").exists()

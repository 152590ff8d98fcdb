"""The first deployment needs nothing on the PATH besides the project's own tools."""

import shutil
from pathlib import Path

import pytest

from local_flyte import LocalFlyte

from .baking import Baker, run

pytestmark = pytest.mark.slow

BARE = "/usr/bin:/bin"


@pytest.mark.parametrize(
    "command", ["make deploy", 'PATH="$PWD/.venv/bin:$PATH" flyte deploy deployment.py app_env']
)
def test_the_image_is_built_and_everything_deployed(
    command: str, baker: Baker, environment: Path, tmp_path: Path
) -> None:
    if shutil.which("uv", path=BARE):
        pytest.skip("uv is installed system-wide here, so it would be found anyway")
    project = baker(tmp_path)
    assert command in (project / "README.md").read_text("utf-8")
    (project / ".venv").symlink_to(environment)
    (project / ".venv" / "installed").touch()
    with LocalFlyte(builds_images=True) as flyte:
        variables = {"HOME": str(tmp_path), "FLYTECTL_CONFIG": str(flyte.config_file())}
        printed = run(["sh", "-c", command], project, PATH=BARE, **variables)
        methods = [call.method for call in flyte.calls]
    assert "Build completed" in printed
    assert methods.index("GetImage") < methods.index("CreateRun") < methods.index("Create")
    assert methods.count("DeployTask") == 2

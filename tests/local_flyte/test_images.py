"""Images are built before a deployment, by a task as on Union, or not at all."""

from pathlib import Path

import pytest

from local_flyte import LocalFlyte

from .on_the_wire import PROJECT, call

pytestmark = pytest.mark.slow

TASK = """
from pathlib import Path
import flyte

image = flyte.Image.from_debian_base(name="layered").with_requirements(
    Path(__file__).with_name("needed.txt")
)
env = flyte.TaskEnvironment(name="layered", image=image)

@env.task
async def nothing() -> None:
    pass
"""
GET_IMAGE = "imagebuilder.ImageService/GetImage"


def builds(flyte: LocalFlyte) -> list[str]:
    """Return the phases of the image builds so far."""
    by_task = {"function": "EQUAL", "field": "task_name", "values": ["build-image"]}
    body = {"projectId": PROJECT, "request": {"filters": [by_task]}}
    answer = call(flyte, "workflow.RunService/ListRuns", body, person="alice").json()
    return [each["action"]["status"]["phase"] for each in answer.get("runs", [])]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A source tree with a task whose image must be built."""
    (tmp_path / "layered.py").write_text(TASK)
    (tmp_path / "needed.txt").write_text("httpx\n")
    return tmp_path


def test_an_image_does_not_exist_before_it_was_built(root: Path) -> None:
    with LocalFlyte(builds_images=True) as flyte:
        refusal = call(
            flyte, GET_IMAGE, {"id": {"name": "layered:1"}, "projectId": PROJECT}, person="alice"
        )
        assert refusal.status_code == 404
        printed = flyte.deploy(root, "layered.py", "env")
        assert "Build completed" in printed
        assert builds(flyte) == ["ACTION_PHASE_SUCCEEDED"]
        (root / "layered.py").write_text(TASK + "# changed\n")
        printed = flyte.deploy(root, "layered.py", "env")
        assert "already exists" in printed
        assert len(builds(flyte)) == 1


def test_the_sdk_reports_a_failed_build_with_its_run(root: Path) -> None:
    with LocalFlyte(builds_images=True) as flyte:
        (flyte.home / "data").mkdir(exist_ok=True)
        (flyte.home / "data" / "registry").touch()  # no folder, so no image can be put into it
        with pytest.raises(RuntimeError, match=r"(?s)Build failed.*/runs/"):
            flyte.deploy(root, "layered.py", "env")


def test_the_open_source_flyte_builds_no_images(root: Path) -> None:
    flyte = LocalFlyte(authorization=False, builds_images=True)
    with flyte, pytest.raises(RuntimeError, match="remote image builder"):
        flyte.deploy(root, "layered.py", "env")


def test_without_image_building_all_images_count_as_built(root: Path) -> None:
    with LocalFlyte() as flyte:
        assert "already exists" in flyte.deploy(root, "layered.py", "env")
        assert builds(flyte) == []

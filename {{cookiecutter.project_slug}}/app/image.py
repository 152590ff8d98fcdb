"""The container image that the app and its tasks run in.

The image contains the dependencies in ``pyproject.toml``. If ``uv.lock`` exists, the versions in
``uv.lock`` are used.
``flyte deploy`` ships the code as a bundle, so a change of the code alone needs no new image.
"""

import os
import sysconfig
from pathlib import Path

import flyte

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"
PYTHON = "{{ cookiecutter.python_version }}"

# The SDK runs uv to build the image. The environment that contains uv may not be on the PATH.
os.environ["PATH"] = os.pathsep.join(
    [sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)]
)

major, minor = map(int, PYTHON.split("."))
image = flyte.Image.from_debian_base(
    name="{{ cookiecutter.project_slug }}",
    python_version=(major, minor),
    # Docker builds for amd64 and arm64, which takes three minutes because one of them is emulated.
    # If all nodes are amd64, add platform=("linux/amd64",), and the build takes 20 seconds.
).with_uv_project(PYPROJECT, extra_args="--no-dev")

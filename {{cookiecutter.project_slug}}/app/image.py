"""The container image that the app and its tasks run in.

It contains the dependencies listed in ``[project] dependencies`` in ``pyproject.toml``, the only
place that declares them (with the exact versions in ``uv.lock``, once there is one). The code is
not in the image: ``flyte deploy`` ships it as a bundle, so changing only code needs no new image.
"""

import os
import sysconfig
from pathlib import Path

import flyte

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"
PYTHON = "{{ cookiecutter.python_version }}"

# The SDK runs uv to build the image. It is in this environment, which may not be on the PATH.
os.environ["PATH"] = os.pathsep.join(
    [sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)]
)

major, minor = map(int, PYTHON.split("."))
image = flyte.Image.from_debian_base(
    name="{{ cookiecutter.project_slug }}",
    python_version=(major, minor),
    # Without platform=, Docker builds for amd64 and arm64: three minutes, as one of them is emulated.
    # With platform=("linux/amd64",), if your cluster's nodes are of that kind, it takes 20 seconds.
).with_uv_project(PYPROJECT, extra_args="--no-dev")

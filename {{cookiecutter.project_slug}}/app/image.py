"""The container image that the app and its tasks run in.

It contains the dependencies in ``pyproject.toml``, in the versions of ``uv.lock`` if this file exists.
``flyte deploy`` ships the code as a bundle, so a change of the code alone needs no new image.
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
    # Docker builds for amd64 and arm64, which takes three minutes because one of them is emulated.
    # If all nodes of the cluster are of one kind, add platform=("linux/amd64",): 20 seconds.
).with_uv_project(PYPROJECT, extra_args="--no-dev")

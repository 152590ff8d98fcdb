"""The container image that the app and its tasks run in.

It contains the dependencies listed in ``[project] dependencies`` in ``pyproject.toml``, the only
place that declares them (with the exact versions in ``uv.lock``, once there is one). The code is
not in the image: ``flyte deploy`` ships it as a bundle, so changing only code needs no new image.
"""

from pathlib import Path

import flyte

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"
PYTHON = "{{ cookiecutter.python_version }}"

major, minor = map(int, PYTHON.split("."))
image = flyte.Image.from_debian_base(
    name="{{ cookiecutter.project_slug }}",
    python_version=(major, minor),
).with_uv_project(PYPROJECT, extra_args="--no-dev")

"""The container image that the app and its tasks run in.

It holds what ``[project] dependencies`` in ``pyproject.toml`` names, the one place where
dependencies are declared (and exactly what ``uv.lock`` names, once there is one). The code is not
in the image: ``flyte deploy`` ships it as a bundle, so a change to code alone needs no new image.
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

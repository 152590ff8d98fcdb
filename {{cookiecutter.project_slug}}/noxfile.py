"""Run the tests on every Python, with the oldest and newest dependencies in pyproject.toml.

``nox --list`` shows the sessions; a Python that is not on this machine is skipped.
"""

import nox

nox.options.default_venv_backend = "uv"
# Use the installed Pythons; do not download others.
nox.options.download_python = "never"


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
@nox.parametrize("resolution", ["lowest-direct", "highest"])
def tests(session: nox.Session, resolution: str) -> None:
    """Install the oldest or the newest versions that pyproject.toml allows, and run the tests."""
    session.install(f"--resolution={resolution}", "--editable=.", "--group=dev")
    session.run("python", "-m", "pytest", "-n", "2", *session.posargs)

"""Tidies up after cookiecutter and tells what to do next.

Cookiecutter renders this file and runs the copy in the generated project, so it can import nothing
of the template's. Standard library only, offline, and safe to run again: cruft does at each update.
"""

import json
import os
import shutil
import sys
from pathlib import Path

ANSWERS: dict[str, str] = json.loads(r"""{{ cookiecutter | tojson }}""")


def remove_empty_folders(project: Path) -> None:
    """A file that an answer left out may leave its folder behind; never touch one with content."""
    for folder in (project / ".github" / "workflows", project / ".github"):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def next_steps(answers: dict[str, str], *, make: bool, windows: bool) -> str:
    """What to run now, as commands that can be pasted one after the other.

    Args:
        answers: The rendered answer to each prompt.
        make: Whether there is a ``make`` to run.
        windows: Whether the shell is one of Windows'.
    """
    name = answers["project_slug"]
    python, scripts = ("py", ".venv\\Scripts\\") if windows else ("python3", ".venv/bin/")
    if make:
        setup: list[str] = []
        dev, test, deploy = "make dev", "make test", "make deploy"
    else:
        setup = [
            f"{python} -m venv .venv",
            f"{scripts}python -m pip install --upgrade pip",
            f"{scripts}python -m pip install --editable . --group dev",
        ]
        dev = f"{scripts}python -m local_flyte"
        test = f"{scripts}python -m pytest"
        deploy = f"{scripts}flyte deploy deployment.py app_env"
    steps = {
        dev: "run it on a local Flyte; Ctrl-C stops both",
        test: "run its tests",
        deploy: "deploy it to your Flyte cluster; README.md says what that needs",
    }
    width = max(map(len, steps))
    lines = [f"cd {name}", *setup, *(f"{step:{width}}  # {why}" for step, why in steps.items())]
    text = [f"{name} is ready. Next:", "", *(f"    {line}" for line in lines), ""]
    if answers["ci"] != "none":
        text += [f"Once it is pushed, {answers['ci']} checks and tests every change.", ""]
    return "\n".join(text)


def main() -> int:
    """Return the exit code."""
    remove_empty_folders(Path.cwd())
    windows = os.name == "nt"
    print("\n" + next_steps(ANSWERS, make=shutil.which("make") is not None, windows=windows))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Remove the parts that were not chosen, and print the next steps.

Cookiecutter renders this file and runs the copy in the generated project, so it cannot import
anything from the template. Standard library only, offline, and safe to run again.
"""

import json
import os
import re
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

ANSWERS: dict[str, str] = json.loads(r"""{{ cookiecutter | tojson }}""")

THE_PAGE = ("app/page", "tests/test_page.py")
# Caches in a working copy of the template, which cookiecutter copies, or in an older project.
CACHES = ("__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache")
DEPLOY = ".venv/bin/flyte deploy deployment.py app_env"
# With make, without it, and why.
STEPS = (
    ("make dev", ".venv/bin/python -m local_flyte", "run it on a local Flyte; Ctrl-C stops both"),
    ("make test", ".venv/bin/python -m pytest -n 2", "run its tests"),
    ("make deploy", DEPLOY, "deploy it to your Flyte cluster; see README.md first"),
)
SETUP = """    python3 -m venv .venv
    .venv/bin/python -m pip install --quiet "pip>=25.1"
    .venv/bin/python -m pip install --editable . --group dev
"""
COMMIT = "git init && git add --all && git commit -m 'Generate the project'"


def tidy(project: Path, answers: dict[str, str]) -> None:
    """Remove the page if it was not chosen, caches, and folders whose only file was left out."""
    caches = (each for name in CACHES for each in project.glob(f"**/{name}"))
    outside = [each for each in caches if ".venv" not in each.parts and ".nox" not in each.parts]
    for path in (*outside, *(project / name for name in THE_PAGE if answers["page"] == "no")):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for folder in (project / ".github" / "workflows", project / ".github"):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def next_steps(answers: dict[str, str], *, make: bool, git: bool = True, folder: str = "") -> str:
    """Return the next steps, as commands that can be pasted one after the other."""
    name = answers["project_slug"]
    steps = [(with_make if make else without, why) for with_make, without, why in STEPS]
    width = max(len(command) for command, _ in steps)
    lines = [f"    {command:{width}}  # {why}\n" for command, why in steps]
    where = " (in WSL: the local Flyte does not run on Windows itself)" if os.name == "nt" else ""
    setup = "" if make else SETUP
    enter = f"    cd {shlex.quote(folder or name)}\n"
    text = f"\n{name} is ready. Next{where}:\n\n{enter}{setup}{''.join(lines)}"
    if answers["ci"] != "none":
        text += f"\nOnce it is pushed, {answers['ci']} checks and tests every change.\n"
    return text if git else f"{text}\nTo keep it in git:\n\n    {COMMIT}\n"


def main() -> int:
    """Return the exit code."""
    project = Path.cwd()
    tidy(project, ANSWERS)
    compared = re.fullmatch(r"tmp\w{8}", project.parent.name)  # with another version, by cruft
    if not (compared and project.parent.parent == Path(tempfile.gettempdir()).resolve()):
        git = any((folder / ".git").exists() for folder in (project, *project.parents))
        make = os.name == "nt" or shutil.which("make") is not None
        folder = os.path.relpath(project, os.environ.get("PWD", project.parent))
        print(next_steps(ANSWERS, make=make, git=git, folder=folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())

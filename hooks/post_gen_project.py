"""Remove the parts that were not chosen, and print the next steps.

Cookiecutter renders this file and runs the copy in the generated project, so it cannot import
anything from the template. Standard library only, offline, and safe to run again at each cruft
update.
"""

import json
import os
import shutil
import sys
from pathlib import Path

ANSWERS: dict[str, str] = json.loads(r"""{{ cookiecutter | tojson }}""")

THE_PAGE = ("app/page", "tests/test_page.py")
# Caches in a working copy of the template, which cookiecutter copies.
CACHES = ("__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache")


def remove_left_out(project: Path, answers: dict[str, str]) -> None:
    """Remove the page if it was not chosen, and folders that are empty without their only file."""
    for name in THE_PAGE if answers["page"] == "no" else ():
        path = project / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for folder in (project / ".github" / "workflows", project / ".github"):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def remove_caches(project: Path) -> None:
    """Remove caches, including those of a project that is generated again."""
    for name in CACHES:
        for folder in [*project.glob(name), *project.glob(f"[!.]*/**/{name}")]:
            shutil.rmtree(folder)


def next_steps(
    answers: dict[str, str],
    *,
    make: bool,
    windows: bool = False,
    git: bool = True,
    folder: str | None = None,
) -> str:
    """Return the next steps, as commands that can be pasted one after the other.

    Args:
        answers: The rendered answer to each prompt.
        make: Whether there is a ``make`` to run.
        windows: Whether this is Windows, where the local Flyte does not run.
        git: Whether the project is in a git repository already.
        folder: The project's folder, as seen from where it was generated.
    """
    name = answers["project_slug"]
    if make or windows:
        setup: list[str] = []
        dev, test, deploy = "make dev", "make test", "make deploy"
    else:
        setup = [
            "python3 -m venv .venv",
            '.venv/bin/python -m pip install --quiet "pip>=25.1"',
            ".venv/bin/python -m pip install --editable . --group dev",
        ]
        dev = ".venv/bin/python -m local_flyte"
        test = ".venv/bin/python -m pytest -n 2"
        deploy = ".venv/bin/flyte deploy deployment.py app_env"
    steps = {
        dev: "run it on a local Flyte; Ctrl-C stops both",
        test: "run its tests",
        deploy: "deploy it to your Flyte cluster; see README.md first",
    }
    width = max(map(len, steps))
    lines = [
        f"cd {folder or name}",
        *setup,
        *(f"{step:{width}}  # {why}" for step, why in steps.items()),
    ]
    where = " (in WSL: the local Flyte does not run on Windows itself)" if windows else ""
    text = [f"{name} is ready. Next{where}:", "", *(f"    {line}" for line in lines), ""]
    if not git:
        commit = "git init && git add --all && git commit -m 'Generate the project'"
        text += ["To keep it in git:", "", f"    {commit}", ""]
    if answers["ci"] != "none":
        text += [f"Once it is pushed, {answers['ci']} checks and tests every change.", ""]
    return "\n".join(text)


def main() -> int:
    """Return the exit code."""
    project = Path.cwd()
    remove_left_out(project, ANSWERS)
    remove_caches(project)
    git = any((folder / ".git").exists() for folder in (project, *project.parents))
    make = shutil.which("make") is not None
    folder = os.path.relpath(project, os.environ.get("PWD", project.parent))
    print("\n" + next_steps(ANSWERS, make=make, windows=os.name == "nt", git=git, folder=folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())

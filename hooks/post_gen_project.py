"""Remove the parts that were not chosen, and print the next steps.

Runs as a rendered copy in the project: standard library only, offline, and safe to run again.
"""

import json
import os
import re
import shlex
import shutil
import tempfile
from pathlib import Path

ANSWERS: dict[str, str] = json.loads(r"""{{ cookiecutter | tojson }}""")

# Caches in a working copy of the template, which cookiecutter copies, or in an older project.
CACHES = ("__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache")
# What goes with the answer no.
PARTS = {
    "page": ["app/page", "tests/test_page.py"],
    "agents": ["passthrough/agents", "tests/test_agents.py", "docs/agents.md"],
}
# These files have lines about a part, which name its page: "docs/agents.md".
MENTIONING = (
    "app/main.py",
    "app/settings.py",
    "pyproject.toml",
    "README.md",
    "docs/taking-out.md",
    "docs/request.svg",
)
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


def tidy(project: Path, answers: dict[str, str]) -> None:
    """Remove parts that were not chosen, caches, and folders whose only file was left out."""
    caches = (each for name in CACHES for each in project.glob(f"**/{name}"))
    unwanted = [each for each in caches if ".venv" not in each.parts]
    for part in [part for part in PARTS if answers[part] == "no"]:
        unwanted += [project / path for path in PARTS[part]]
        for file in map(project.joinpath, MENTIONING):
            if file.is_file():
                lines = file.read_bytes().splitlines(keepends=True)
                kept = [line for line in lines if f"docs/{part}.md".encode() not in line]
                file.write_bytes(b"".join(kept))
    for path in unwanted:
        if path.is_file():
            path.unlink()
        shutil.rmtree(path, ignore_errors=True)
    for folder in (project / ".github" / "workflows", project / ".github"):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def next_steps(answers: dict[str, str], folder: str, *, make: bool, git: bool) -> str:
    """Return the next steps, as commands that can be pasted one after the other."""
    steps = [(with_make if make else without, why) for with_make, without, why in STEPS]
    width = max(len(command) for command, _ in steps)
    lines = [f"    {command:{width}}  # {why}\n" for command, why in steps]
    where = " (in WSL: the local Flyte does not run on Windows itself)" if os.name == "nt" else ""
    setup = "" if make else SETUP
    enter = f"    cd {shlex.quote(folder)}\n"
    text = f"\n{answers['project_slug']} is ready. Next{where}:\n\n{enter}{setup}{''.join(lines)}"
    if answers["ci"] != "none":
        text += f"\nOnce it is pushed, {answers['ci']} checks and tests every change.\n"
    commit = "git init && git add --all && git commit -m 'Generate the project'"
    return text if git else f"{text}\nTo keep it in git:\n\n    {commit}\n"


if __name__ == "__main__":
    here = Path.cwd()
    tidy(here, ANSWERS)
    compared = re.fullmatch(r"tmp\w{8}", here.parent.name)  # with another version, by cruft
    if not (compared and here.parent.parent == Path(tempfile.gettempdir()).resolve()):
        in_git = any((folder / ".git").exists() for folder in (here, *here.parents))
        has_make = os.name == "nt" or shutil.which("make") is not None
        relative = os.path.relpath(here, os.environ.get("PWD", here.parent))
        print(next_steps(ANSWERS, relative, make=has_make, git=in_git))

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
STEPS = """\
    make dev     # run it on a local Flyte; Ctrl-C stops both
    make test    # run its tests
    make deploy  # deploy it to your Flyte cluster; see README.md first
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
    where = " (in WSL: the local Flyte does not run on Windows itself)" if os.name == "nt" else ""
    enter = f"    cd {shlex.quote(folder)}\n"
    text = f"\n{answers['project_slug']} is ready. Next{where}:\n\n{enter}{STEPS}"
    if not make:
        text += "\nThere is no make here: README.md has the commands without it.\n"
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

"""Remove the features that the answers exclude, and print the next steps.

Cookiecutter runs a rendered copy of this file in the project. The hook uses only the standard
library, works offline, and may run again.
"""

import json
import os
import re
import shlex
import shutil
import tempfile
from pathlib import Path

ANSWERS: dict[str, str] = json.loads(r"""{{ cookiecutter | tojson }}""")

# Cookiecutter copies these caches from a working copy of the template.
CACHES = ("__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache")
# Files and folders to remove for the answer "no".
FEATURES = {
    "page": ["app/page", "tests/test_page.py"],
    "agents": ["passthrough/agents", "tests/test_agents.py", "docs/agents.md"],
}
# A line belongs to a feature if it contains this text. The files below have such lines.
FEATURE_MARKS = {"page": b"`app/page", "agents": b"docs/agents.md"}
FILES_WITH_FEATURE_LINES = (
    "app/main.py",
    "app/settings.py",
    "pyproject.toml",
    "README.md",
    "docs/removing-features.md",
    "docs/request.svg",
    "docs/sign-in.md",
)
STEPS = """\
    make dev     # run the app and a local Flyte server; Ctrl-C stops both
    make test    # run the tests
    make deploy  # deploy the app to your Flyte cluster; read README.md first
"""


def tidy(project: Path, answers: dict[str, str]) -> None:
    """Remove excluded features, caches, and empty folders of the CI configuration."""
    caches = (path for name in CACHES for path in project.glob(f"**/{name}"))
    unwanted = [path for path in caches if ".venv" not in path.parts]
    for feature in [feature for feature in FEATURES if answers[feature] == "no"]:
        unwanted += [project / path for path in FEATURES[feature]]
        for file in map(project.joinpath, FILES_WITH_FEATURE_LINES):
            if file.is_file():
                lines = file.read_bytes().splitlines(keepends=True)
                kept = [line for line in lines if FEATURE_MARKS[feature] not in line]
                file.write_bytes(b"".join(kept))
    for path in unwanted:
        if path.is_file():
            path.unlink()
        shutil.rmtree(path, ignore_errors=True)
    for folder in (project / ".github" / "workflows", project / ".github"):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def next_steps(answers: dict[str, str], folder: str, *, make: bool, git: bool) -> str:
    """Return the next steps as commands to paste."""
    where = " (in WSL, because the local Flyte server needs it)" if os.name == "nt" else ""
    enter = f"    cd {shlex.quote(folder)}\n"
    text = f"\n{answers['project_slug']} is ready. Next{where}:\n\n{enter}{STEPS}"
    if not make:
        text += "\nmake is not installed; README.md lists the commands without make.\n"
    if answers["ci"] != "none":
        text += f"\nAfter a push, {answers['ci']} checks and tests every change.\n"
    commit = "git init && git add --all && git commit -m 'Generate the project'"
    return text if git else f"{text}\nTo put the project into git:\n\n    {commit}\n"


if __name__ == "__main__":
    here = Path.cwd()
    tidy(here, ANSWERS)
    # cruft generates projects in temporary folders, to compare versions.
    is_cruft_folder = re.fullmatch(r"tmp\w{8}", here.parent.name)
    if not (is_cruft_folder and here.parent.parent == Path(tempfile.gettempdir()).resolve()):
        in_git = any((folder / ".git").exists() for folder in (here, *here.parents))
        has_make = os.name == "nt" or shutil.which("make") is not None
        relative = os.path.relpath(here, os.environ.get("PWD", here.parent))
        print(next_steps(ANSWERS, relative, make=has_make, git=in_git))

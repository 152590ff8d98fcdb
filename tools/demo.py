"""``make demo``: generate the default project in ``.demo/`` and run it on its local Flyte."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from cookiecutter.main import cookiecutter
from template import ROOT, copy_template

DEMO = ROOT / ".demo"
PROJECT = "my-flyte-app"
"""What a new generation leaves in place: the environment, and what ``make dev`` remembers."""
CHANGED = """.demo/{} has changes, such as {}: it runs as it is.
To generate it anew, move what you want to keep, and delete the folder."""


def generated_files(project: Path) -> dict[str, str]:
    """Return the hash of each file of a project, without those that tools have made."""
    made = {".venv", "__pycache__", "app.egg-info", ".mypy_cache", ".pytest_cache", ".ruff_cache"}
    files = (path for path in project.rglob("*") if path.is_file())
    own = (file for file in files if not made & {*file.relative_to(project).parts})
    return {
        str(file.relative_to(project)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in own
    }


def first_change(project: Path, record: Path) -> str | None:
    """Return the name of a file that has been changed since the project was generated."""
    if not project.exists():
        return None
    generated = json.loads(record.read_text("utf-8")) if record.exists() else {}
    found = generated_files(project)
    return min((name for name, _ in generated.items() ^ found.items()), default=None)


def remove_generated_files(project: Path) -> None:
    """Remove the files of an earlier run, which the template may no longer have."""
    for path in project.iterdir() if project.exists() else ():
        if path.is_dir() and path.name != ".venv":
            shutil.rmtree(path)
        elif path.is_file():
            path.unlink()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide the hooks' output: the demo takes the next steps itself."""
    sys.stdout.flush()
    stdout = os.dup(1)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(stdout, 1)
        os.close(stdout)


def generate() -> Path:
    """Generate the project with the default answers, unless somebody has changed it."""
    record = DEMO / "generated.json"
    if changed := first_change(DEMO / PROJECT, record):
        print(CHANGED.format(PROJECT, changed), flush=True)
        return DEMO / PROJECT
    remove_generated_files(DEMO / PROJECT)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        config = scratch / "config.yaml"
        config.write_text(
            f"cookiecutters_dir: {scratch / 'clones'}\nreplay_dir: {scratch / 'replay'}\n"
        )
        template = copy_template(scratch / "template")
        with quiet():
            project = cookiecutter(
                str(template),
                no_input=True,
                output_dir=str(DEMO),
                overwrite_if_exists=True,
                config_file=str(config),
            )
    record.write_text(json.dumps(generated_files(Path(project))), "utf-8")
    return Path(project)


def install(project: Path) -> Path:
    """Install the project with its development tools; return its environment's Python."""
    environment = project / ".venv"
    python = environment / "bin" / "python"
    uv = [sys.executable, "-m", "uv"]
    if not python.exists():
        subprocess.run(
            [*uv, "venv", "--quiet", "--python", sys.executable, environment], check=True
        )
    subprocess.run(
        [*uv, "pip", "install", "--quiet", "--python", python,
         "--editable", project, "--group", f"{project / 'pyproject.toml'}:dev"],
        check=True,
    )  # fmt: skip
    return python


def main() -> NoReturn:
    """Generate, install and run."""
    print("Generating the default project in .demo/ …", flush=True)
    project = generate()
    print("Installing it (its own environment, .venv) …", flush=True)
    python = install(project)
    os.chdir(project)
    command = [str(python), "-m", "local_flyte", *sys.argv[1:]]
    # Replace this process, so that Ctrl-C and other signals reach the app directly.
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main()

"""``make demo``: generate the default project in ``.demo/`` and run it on its local Flyte."""

import contextlib
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


def remove_all_but_the_environment(project: Path) -> None:
    """Remove files of an earlier run, which the template may no longer have."""
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
    """Generate the project with the default answers."""
    remove_all_but_the_environment(DEMO / "my-flyte-app")
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

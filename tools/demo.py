"""``make demo``: generate the default project in ``.demo/``, and run the project."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from cookiecutter.main import cookiecutter
from template import ROOT, copy_template

DEMO = ROOT / ".demo"
PROJECT = DEMO / "my-flyte-app"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide the output of the hooks, because the demo runs the next steps itself."""
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


def generate() -> None:
    """Generate the project with the default answers."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        config = scratch / "config.yaml"
        config.write_text(
            f"cookiecutters_dir: {scratch / 'clones'}\nreplay_dir: {scratch / 'replay'}\n"
        )
        template = copy_template(scratch / "template")
        with quiet():
            cookiecutter(
                str(template), no_input=True, output_dir=str(DEMO), config_file=str(config)
            )


def install(project: Path) -> Path:
    """Install the project with development tools, and return the path of the new ``python``."""
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
    """Generate the project unless it exists, and then install and run the project."""
    if PROJECT.exists():
        print(f"Using the existing {PROJECT}. Delete the folder to generate it again.", flush=True)
    else:
        print("Generating the default project in .demo/ …", flush=True)
        generate()
    print("Installing the project into .demo/my-flyte-app/.venv …", flush=True)
    python = install(PROJECT)
    os.chdir(PROJECT)
    command = [str(python), "-m", "local_flyte", *sys.argv[1:]]
    # Replace this process, so that Ctrl-C and other signals reach the app directly.
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main()

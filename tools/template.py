"""The template as in a clone, without the caches that tools leave in a working copy."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def tracked_files(root: Path = ROOT) -> list[Path]:
    """Return what git tracks or would track in ``root``, as sorted paths relative to it."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
    )
    names = {name for name in listing.stdout.decode().split("\0") if name}
    return sorted(path for path in map(Path, names) if (root / path).is_file())


def copy_template(destination: Path) -> Path:
    """Copy the files that cookiecutter needs into ``destination`` and return it.

    Cookiecutter takes every file that it finds. In a working copy that includes caches such as
    ``__pycache__``, which a clone does not have.
    """
    parts = {"cookiecutter.json", "hooks", "{{cookiecutter.project_slug}}"}
    for path in tracked_files():
        if path.parts[0] in parts:
            target = destination / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, target)
    return destination

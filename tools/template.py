"""Files of the template, without the caches of a working copy."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def tracked_files(root: Path = ROOT) -> list[Path]:
    """Return the files in ``root`` that git does not ignore, as sorted relative paths."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
    )
    names = {name for name in listing.stdout.decode().split("\0") if name}
    return sorted(path for path in map(Path, names) if (root / path).is_file())


def copy_template(destination: Path) -> Path:
    """Copy the files that cookiecutter needs to ``destination``, and return ``destination``.

    Cookiecutter copies every file. This function omits caches such as ``__pycache__``, which a
    working copy contains and a new clone does not.
    """
    parts = {"cookiecutter.json", "hooks", "{{cookiecutter.project_slug}}"}
    for path in tracked_files():
        if path.parts[0] in parts:
            target = destination / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, target)
    return destination

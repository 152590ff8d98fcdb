"""Put nginx, which one test needs, into this environment if the machine has none.

This unpacks Debian's package below ``sys.prefix``, without installing or starting anything. If that
is not possible, the test is skipped with that reason.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SEARCH_PATH = os.pathsep.join(
    [os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin"]
)
UNPACKED = Path(sys.prefix) / "nginx"


def find() -> str | None:
    """Return the nginx to use: ``$NGINX``, the machine's, or the one that was unpacked."""
    unpacked = UNPACKED / "usr" / "sbin" / "nginx"
    machines = os.environ.get("NGINX") or shutil.which("nginx", path=SEARCH_PATH)
    return machines or (str(unpacked) if unpacked.exists() else None)


def quietly(*command: str | Path, cwd: Path | None = None) -> bool:
    """Run a command and return whether it succeeded."""
    return subprocess.run(command, cwd=cwd, capture_output=True, check=False).returncode == 0


def main() -> int:
    """Unpack nginx if there is none. Never fails: only one test needs it."""
    if find() or not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)  # private to this user, because the package is run later
        if not quietly("apt-get", "download", "nginx", cwd=folder):
            # A new machine has no list of packages yet.
            quietly("apt-get", "update")
            quietly("apt-get", "download", "nginx", cwd=folder)
        for package in folder.glob("*.deb"):
            quietly("dpkg-deb", "-x", package, UNPACKED)
    if not find():
        print("nginx could not be installed: the test that needs it will be skipped")
    return 0


if __name__ == "__main__":
    sys.exit(main())

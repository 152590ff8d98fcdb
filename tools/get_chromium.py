"""Install Chromium, which the tests of the page need, if it is missing and can be installed.

This needs root and Debian's package: a browser is too large, and has too many libraries, to unpack
into the environment. If it cannot be installed, the tests are skipped with that reason. Without a
window, it takes a third of the CPU.
"""

import os
import shutil
import subprocess
import sys

WITHOUT_A_WINDOW = "chromium-headless-shell"
NAMES = (WITHOUT_A_WINDOW, "chromium", "chromium-browser", "google-chrome-stable", "google-chrome")


def find() -> str | None:
    """Return the browser to use: ``$CHROMIUM``, or the machine's."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def quietly(*command: str) -> bool:
    """Run a command and return whether it succeeded."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    return done.returncode == 0


def install(package: str) -> None:
    """Install one of Debian's packages, if that is possible."""
    if shutil.which("apt-get") and os.geteuid() == 0:
        command = ("apt-get", "install", "--yes", "--no-install-recommends", package)
        # A new machine has no list of packages yet.
        if not quietly(*command) and quietly("apt-get", "update"):
            quietly(*command)


def main() -> int:
    """Install Chromium if it is missing. Never fails: most tests don't need it."""
    if not os.environ.get("CHROMIUM") and not shutil.which(WITHOUT_A_WINDOW):
        install(WITHOUT_A_WINDOW)
    if not find():
        install("chromium")
    if not find():
        print("Chromium could not be installed: the tests of the page in a browser will be skipped")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Install Chromium for the tests of the web UI if it is missing.

Installation needs root and Debian's package, because a browser is too large to unpack into the
Python environment. Without a browser, the tests are skipped, and the reason says so. The package
of the headless browser needs only a third of the full browser's CPU time.
"""

import os
import shutil
import subprocess
import sys

HEADLESS = "chromium-headless-shell"
NAMES = (HEADLESS, "chromium", "chromium-browser", "google-chrome-stable", "google-chrome")


def find() -> str | None:
    """Return the path of the browser: ``$CHROMIUM``, or an installed one."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def quietly(*command: str) -> bool:
    """Run a command without output, and return whether it succeeded."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    result = subprocess.run(command, env=environment, capture_output=True, check=False)
    return result.returncode == 0


def install(package: str) -> None:
    """Install a Debian package if possible."""
    if shutil.which("apt-get") and os.geteuid() == 0:
        command = ("apt-get", "install", "--yes", "--no-install-recommends", package)
        # A new machine may have no package lists yet.
        if not quietly(*command) and quietly("apt-get", "update"):
            quietly(*command)


def main() -> int:
    """Install Chromium if it is missing. Return 0 in any case, because most tests don't need it."""
    if not os.environ.get("CHROMIUM") and not shutil.which(HEADLESS):
        install(HEADLESS)
    if not find():
        install("chromium")
    if not find():
        print("Chromium could not be installed, so the tests of the web UI will be skipped")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Another user of this machine, who tries to connect to what somebody runs."""

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

NOBODY = 65534  # the user without rights on every Linux
ROOT = [] if os.getuid() == 0 else ["sudo", "-n"]
ASK = """
import os, socket, ssl, sys
user, *ports = map(int, sys.argv[1:])
tls = ssl._create_unverified_context()
os.setuid(user)  # from here on, Python's own files may be out of reach
for port in ports:
    for wrap in (lambda plain: plain, tls.wrap_socket):
        try:
            connection = socket.socket()
            connection.connect(("127.0.0.1", port))
            connection = wrap(connection)
            connection.sendall(b"GET / HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
            if connection.recv(5) == b"HTTP/":
                print(port)
                break
        except OSError:
            pass
"""


def is_available() -> bool:
    if sys.platform != "linux" or (ROOT and shutil.which("sudo") is None):
        return False
    return subprocess.run([*ROOT, "true"], capture_output=True, check=False).returncode == 0


def answering(user: int, ports: set[int]) -> set[int]:
    command = [*ROOT, sys.executable, "-I", "-c", ASK, str(user), *map(str, ports)]
    return set(map(int, subprocess.check_output(command, text=True).split()))


def ports_of(leader: int) -> set[int]:
    """Return the ports on which a process or one of its children listens."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    listening = {f"socket:[{row[9]}]": int(row[1][-4:], 16) for row in rows if row[3] == "0A"}
    ports, processes = set(), [leader]
    for process in processes:
        with suppress(FileNotFoundError):  # it has ended
            for thread in Path(f"/proc/{process}/task").iterdir():
                processes += map(int, (thread / "children").read_text().split())
            for file in Path(f"/proc/{process}/fd").iterdir():
                with suppress(FileNotFoundError):  # it has been closed
                    ports.add(listening.get(str(file.readlink()), 0))
    return ports - {0}


def check_refused(leader: int, *, at_least: int) -> None:
    """Check that all ports of a process and its children answer their user, and nobody else."""
    ports = ports_of(leader)
    assert len(ports) >= at_least
    assert answering(os.getuid(), ports) == ports
    assert answering(NOBODY, ports) == set()

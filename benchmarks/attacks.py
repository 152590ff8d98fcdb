"""Attack the connections of an app behind Envoy, as on Knative, and measure another client.

    python benchmarks/attacks.py [NAME ...]

For each attack (default: all), print the slowest ``GET /me`` of another client without and during
the attack. The attacker, Envoy, Flyte and the app share the cores of this machine. The exit code is
1 if a request of the other client fails during the attack or afterwards.
"""

import multiprocessing
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from servers import ROOT, generate

sys.path[:0] = [str(ROOT), str(ROOT / "tools"), str(ROOT / "{{cookiecutter.project_slug}}")]

from envoy import HOST, in_front_of  # noqa: E402 - with the template's

from local_flyte import LocalFlyte  # noqa: E402
from local_flyte.testing import bearer, client_of  # noqa: E402
from tests.served import serving_app  # noqa: E402

ATTACKERS = 10  # concurrent connections
REQUESTS = 40  # of the other client

MALLORY = f"Authorization: {bearer('bob')}\r\n".encode()
ME = b"GET /me HTTP/1.1\r\nHost: app\r\n" + MALLORY
POST = b"POST /conditions HTTP/1.1\r\nHost: app\r\nContent-Type: application/json\r\n" + MALLORY
LARGE = b"GET /openapi.json HTTP/1.1\r\nHost: app\r\n\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


class Attack(NamedTuple):
    """Bytes to send on each connection."""

    first: bytes
    following: bytes = b""  # repeated, without reading a response
    pause: float = 0  # seconds after each part; 0: disconnect after the response


ATTACKS = {
    "pipelining": Attack(b"GET /health HTTP/1.1\r\nHost: app\r\n\r\n" * 500),
    "endless headers": Attack(ME + b"x: ", b"x" * 65_536),
    "many headers": Attack(ME + b"".join(b"x%d: y\r\n" % n for n in range(20_000)) + b"\r\n"),
    "slow headers": Attack(ME + b"x: ", b"x", 0.01),
    "slow bodies": Attack(POST + b"Content-Length: 1000000\r\n\r\n[", b" ", 0.01),
    "chunked bodies": Attack(CHUNKED, b"1\r\n \r\n" * 10_000),
    "reading nothing": Attack(LARGE, LARGE * 10),
    "trailers": Attack(CHUNKED + b"2\r\n{}\r\n0\r\n" + b"x: y\r\n" * 2000 + b"\r\n"),
    "leaving": Attack(LARGE, pause=0.05),
}


def attack_on(port: int, attack: Attack, has_begun: Any) -> None:
    """Attack over many concurrent connections until the process is killed."""

    def attack_again() -> None:
        while True:
            with suppress(OSError), socket.create_connection((HOST, port), 5) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.sendall(attack.first)
                has_begun.set()
                time.sleep(attack.pause)
                while attack.following:
                    client.sendall(attack.following)
                    time.sleep(attack.pause)
                if not attack.pause:
                    client.recv(1)

    for _ in range(ATTACKERS):
        threading.Thread(target=attack_again).start()


@contextmanager
def under(attack: Attack, port: int) -> Iterator[None]:
    """Attack from a separate process during the block."""
    spawn = multiprocessing.get_context("spawn")
    has_begun = spawn.Event()
    attacker = spawn.Process(target=attack_on, args=(port, attack, has_begun))
    attacker.start()
    try:
        assert has_begun.wait(60)
        yield
        assert attacker.is_alive()
    finally:
        attacker.kill()
        attacker.join()


def slowest_request(client: httpx.Client) -> float:
    """Return the duration of the slowest of many requests, in seconds; all must succeed."""
    seconds = list[float]()
    for _ in range(REQUESTS):
        began = time.perf_counter()
        client.get("/me").raise_for_status()
        seconds.append(time.perf_counter() - began)
    return max(seconds)


def main() -> None:
    """Attack an app of the default project."""
    chosen = sys.argv[1:] or [*ATTACKS]
    with tempfile.TemporaryDirectory() as name, LocalFlyte() as flyte:
        folder = Path(name)
        (folder / "project").mkdir()
        project, log = generate(folder / "project"), folder / "log"
        with (
            serving_app(project, log, flyte, signs_in=False, ACCESS_LOG="false") as app,
            in_front_of(folder, int(app.url.rpartition(":")[2])) as port,
            client_of(f"http://{HOST}:{port}", "alice") as alice,
        ):
            slowest_request(alice)  # warm up: the first requests open connections
            for attack in chosen:
                alone = slowest_request(alice)
                with under(ATTACKS[attack], port):
                    attacked = slowest_request(alice)
                slowest_request(alice)  # all requests after the attack must succeed
                print(
                    f"{attack}: {alone:.3f} s alone, {attacked:.3f} s during the attack", flush=True
                )
        assert "Traceback" not in log.read_text("utf-8")


if __name__ == "__main__":
    main()

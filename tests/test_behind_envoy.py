"""The app behind Envoy, as on Knative: attacks on connections stop nobody else."""

import multiprocessing
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from local_flyte import LocalFlyte
from local_flyte.testing import bearer, client_of

from .envoy import HOST, in_front_of
from .served import serving_app

pytestmark = pytest.mark.weekly

ATTACKERS = 10  # connections at once
ASKED = 40  # requests of the other person


@pytest.fixture(scope="module")
def port(default_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an Envoy in front of the generated app."""
    folder = tmp_path_factory.mktemp("envoy")
    log = folder / "log"
    with (
        LocalFlyte() as flyte,
        serving_app(default_project, log, flyte, signs_in=False, ACCESS_LOG="false") as app,
        in_front_of(folder, int(app.url.rpartition(":")[2])) as port,
    ):
        yield port
    assert "Traceback" not in log.read_text("utf-8")


MALLORY = f"Authorization: {bearer('bob')}\r\n".encode()
ME = b"GET /me HTTP/1.1\r\nHost: app\r\n" + MALLORY
POST = b"POST /conditions HTTP/1.1\r\nHost: app\r\nContent-Type: application/json\r\n" + MALLORY
LARGE = b"GET /openapi.json HTTP/1.1\r\nHost: app\r\n\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


class Attack(NamedTuple):
    """What is sent on each connection."""

    first: bytes
    following: bytes = b""  # again and again, without reading an answer
    pause: float = 0  # seconds after each part; without it, a client leaves once it is answered


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
    """Attack over many connections at once, until this process is ended."""
    first, following, pause = attack

    def attack_again() -> None:
        while True:
            with suppress(OSError), socket.create_connection((HOST, port), 5) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.sendall(first)
                has_begun.set()
                time.sleep(pause)
                while following:
                    client.sendall(following)
                    time.sleep(pause)
                if not pause:
                    client.recv(1)

    for _ in range(ATTACKERS):
        threading.Thread(target=attack_again).start()


@contextmanager
def under(attack: Attack, port: int) -> Iterator[None]:
    """Attack during the block, from a process of its own."""
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


def longest_wait(alice: httpx.Client) -> float:
    """Return how long the slowest of many requests of somebody else takes; all must be served."""
    seconds = list[float]()
    for _ in range(ASKED):
        began = time.perf_counter()
        assert alice.get("/me").json()["subject"] == "alice-subject"
        seconds.append(time.perf_counter() - began)
    return max(seconds)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_attacks_on_connections_stop_nobody_else(attack: Attack, port: int) -> None:
    with client_of(f"http://{HOST}:{port}", "alice") as alice:
        longest_wait(alice)  # the first requests open connections
        alone = longest_wait(alice)
        with under(attack, port):
            beside = longest_wait(alice)
        print(f"at worst {alone:.3f} s alone, {beside:.3f} s beside the attack")
        # On two cores, the attackers' threads, Envoy, Flyte and the app share the processor.
        assert beside < 20 * alone + 2
        longest_wait(alice)  # and afterwards

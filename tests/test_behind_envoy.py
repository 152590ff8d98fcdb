"""The app behind Envoy, as on Knative: attacks on connections stop nobody else."""

import json
import multiprocessing
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from local_flyte import LocalFlyte
from local_flyte.apps import free_port
from local_flyte.serving import listen
from local_flyte.testing import bearer, wait_until

from .baking import BIN
from .served import answers, started

pytestmark = pytest.mark.weekly

ATTACKERS = 10  # connections at once
ASKED = 40  # requests of the other person
HOST = "127.0.0.1"


def envoys_configuration(port: int, upstream: int) -> str:
    """Return a configuration with one listener, and the app as its only upstream."""

    def address(port: int) -> dict[str, Any]:
        return {"address": {"socket_address": {"address": HOST, "port_value": port}}}

    def typed(kind: str, **options: Any) -> object:
        return {"@type": f"type.googleapis.com/envoy.extensions.filters.{kind}", **options}

    router = {"name": "router", "typed_config": typed("http.router.v3.Router")}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "app", "timeout": "0s"}}
    manager = typed(
        "network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="in",
        upgrade_configs=[{"upgrade_type": "websocket"}],
        stream_idle_timeout="300s",
        http_filters=[router],
        route_config={"virtual_hosts": [{"name": "app", "domains": ["*"], "routes": [route]}]},
    )
    filters = [{"name": "http", "typed_config": manager}]
    many = {"max_connections": 10_000, "max_pending_requests": 10_000}
    cluster = {
        "name": "app",
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [many]},
        "load_assignment": {
            "cluster_name": "app",
            "endpoints": [{"lb_endpoints": [{"endpoint": address(upstream)}]}],
        },
    }
    listener = {**address(port), "filter_chains": [{"filters": filters}]}
    return json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}})


@pytest.fixture(scope="module")
def port(default_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an Envoy in front of the generated app."""
    folder, port = tmp_path_factory.mktemp("envoy"), free_port()
    with LocalFlyte() as flyte, listen() as listener:
        upstream, number = listener.getsockname()[1], listener.fileno()
        serve = f"uvicorn.run('app.main:app', fd={number}, **passthrough.UVICORN)"
        command = f'python -c "import passthrough, uvicorn; {serve}"'
        url = f"http://{HOST}:{upstream}/health"
        variables = {**flyte.app_environment(), "ACCESS_LOG": "false"}
        (folder / "envoy.json").write_text(envoys_configuration(port, upstream))
        options = f"-c {folder}/envoy.json -l error --concurrency 1 --use-dynamic-base-id"
        with (
            started(command, default_project, url, variables, folder / "log", number) as app,
            subprocess.Popen([BIN / "envoy", *options.split()]) as proxy,
        ):
            assert app.poll() is None, (folder / "log").read_text("utf-8")
            try:
                wait_until(
                    lambda: proxy.poll() is not None or answers(f"http://{HOST}:{port}/health")
                )
                assert proxy.poll() is None
                yield port
            finally:
                proxy.terminate()
        assert "Traceback" not in (folder / "log").read_text("utf-8")


# Attacks. Each function is called again and again, on new connections.

MALLORY = f"Authorization: {bearer('bob')}\r\n".encode()
ME = b"GET /me HTTP/1.1\r\nHost: app\r\n" + MALLORY
POST = b"POST /conditions HTTP/1.1\r\nHost: app\r\nContent-Type: application/json\r\n" + MALLORY
WEBSOCKET = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: eHh4eHh4eHh4eHh4eHh4eA==\r\n\r\n"
)
Connection = socket.socket
Attack = Callable[[Connection, Callable[[], bool]], None]


def pipelining(client: Connection, is_over: Callable[[], bool]) -> None:
    client.sendall(b"GET /health HTTP/1.1\r\nHost: app\r\n\r\n" * 500)


def endless_headers(client: Connection, is_over: Callable[[], bool]) -> None:
    client.sendall(ME + b"x: ")
    while not is_over():
        client.sendall(b"x" * 65_536)


def many_headers(client: Connection, is_over: Callable[[], bool]) -> None:
    client.sendall(ME + b"".join(b"x%d: y\r\n" % n for n in range(20_000)) + b"\r\n")


def slow_headers(client: Connection, is_over: Callable[[], bool]) -> None:
    client.sendall(ME + b"x: ")
    while not is_over():
        client.sendall(b"x")
        time.sleep(0.01)


def slow_bodies(client: Connection, is_over: Callable[[], bool]) -> None:
    client.sendall(POST + b"Content-Length: 1000000\r\n\r\n[")
    while not is_over():
        client.sendall(b" ")
        time.sleep(0.01)


def chunked_bodies(client: Connection, is_over: Callable[[], bool]) -> None:
    client.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
    while not is_over():
        client.sendall(b"1\r\n \r\n" * 10_000)


def frames(client: Connection, is_over: Callable[[], bool]) -> None:
    client.sendall(ME + WEBSOCKET)
    while not is_over():
        client.sendall(b"\x89\x80\0\0\0\0" * 10_000)


def reading_nothing(client: Connection, is_over: Callable[[], bool]) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    while not is_over():
        client.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: app\r\n\r\n" * 10)


def trailers(client: Connection, is_over: Callable[[], bool]) -> None:
    chunks = b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    client.sendall(POST + chunks + b"x: y\r\n" * 2000 + b"\r\n")
    client.recv(65_536)


def leaving(client: Connection, is_over: Callable[[], bool]) -> None:
    client.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: app\r\n\r\n")
    time.sleep(0.05)


ATTACKS = (
    pipelining,
    endless_headers,
    many_headers,
    slow_headers,
    slow_bodies,
    chunked_bodies,
    frames,
    reading_nothing,
    trailers,
    leaving,
)


def go_on(name: str, port: int, has_begun: Any, is_over: Any) -> None:
    """Attack over many connections at once, in a process of its own, until it is over."""
    attack = globals()[name]

    def attack_again() -> None:
        while not is_over.is_set():
            with suppress(OSError), socket.create_connection((HOST, port), 5) as client:
                has_begun.set()
                attack(client, is_over.is_set)

    threads = [threading.Thread(target=attack_again) for _ in range(ATTACKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextmanager
def under(attack: Attack, port: int) -> Iterator[None]:
    """Attack during the block."""
    spawn = multiprocessing.get_context("spawn")
    has_begun, is_over = spawn.Event(), spawn.Event()
    attacker = spawn.Process(target=go_on, args=(attack.__name__, port, has_begun, is_over))
    attacker.start()
    try:
        assert has_begun.wait(60)
        yield
    finally:
        is_over.set()
        attacker.join(60)
    assert attacker.exitcode == 0


def waits(port: int) -> list[float]:
    """Return how long each of many requests of somebody else takes; all must be served."""
    headers, seconds = {"Authorization": bearer("alice")}, list[float]()
    with httpx.Client(trust_env=False, headers=headers, timeout=60) as alice:
        for _ in range(ASKED):
            began = time.perf_counter()
            answer = alice.get(f"http://{HOST}:{port}/me")
            seconds.append(time.perf_counter() - began)
            assert answer.json()["subject"] == "alice-subject"
    return seconds


@pytest.mark.parametrize("attack", ATTACKS, ids=[attack.__name__ for attack in ATTACKS])
def test_attacks_on_connections_stop_nobody_else(attack: Attack, port: int) -> None:
    waits(port)  # the first requests open connections
    alone = max(waits(port))
    with under(attack, port):
        beside = max(waits(port))
    print(f"{attack.__name__}: at worst {alone:.3f} s alone, {beside:.3f} s beside the attack")
    # On two cores, the attackers' threads, Envoy, Flyte and the app share the processor.
    assert beside < 20 * alone + 2
    assert waits(port)  # and afterwards

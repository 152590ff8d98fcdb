"""What requests leave in memory, and what large messages of Flyte need of it."""

import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import httpx
import pytest

from local_flyte import LocalFlyte
from local_flyte.testing import client_of, ended, start, wait_until

from .elsewhere import lines
from .faulty import connected, head


@pytest.fixture(scope="module")
def counted(local_flyte: LocalFlyte, certificate: Path) -> Iterator[httpx.Client]:
    """Alice's client of an app in a process of its own, which counts Flyte's messages."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.counted", str(server.fileno())],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            pass_fds=[server.fileno()],
        ) as process,
        client_of(f"http://127.0.0.1:{server.getsockname()[1]}", "alice") as client,
    ):
        try:
            yield client
        finally:
            process.terminate()


def messages(client: httpx.Client) -> Counter[str]:
    """Return how many bytes Flyte's messages in the app's memory had, by kind."""
    return Counter(client.get("/messages").json())


def leave(client: httpx.Client, path: str, flyte: LocalFlyte, call: str, waits_for: bytes) -> None:
    """Send a request, and leave while its call to Flyte is open and once this has been answered."""
    with connected(str(client.base_url), head(path)) as connection:
        answer = b""
        while waits_for not in answer:
            answer += connection.recv(1 << 16)
        wait_until(lambda: not call or flyte.open_calls(call) == 1)
    wait_until(lambda: flyte.open_calls(call) == 0)


@pytest.mark.parametrize(
    ("path", "call", "waits_for"),
    [
        ("/runs/{run}/io", "GetActionData", b""),
        ("/runs/{run}/actions", "GetActionDetails", b""),
        ("/runs/{run}?wait=60", "WatchActions", b""),
        ("/runs/{run}/events", "WatchActions", b"data: "),
        ("/runs/{run}/actions/events", "WatchActions", b"data: "),
        ("/naive/runs/{run}/log", "TailLogs", b""),
    ],
)
def test_a_request_whose_client_leaves_keeps_no_message_of_flytes(
    *,
    counted: httpx.Client,
    local_flyte: LocalFlyte,
    counting: str,
    path: str,
    call: str,
    waits_for: bytes,
) -> None:
    def request_and_leave() -> None:
        with nullcontext() if waits_for else local_flyte.hang(call):
            leave(counted, path.format(run=counting), local_flyte, call, waits_for)

    request_and_leave()  # what is imported or cached at the first request
    before = messages(counted)
    request_and_leave()
    wait_until(lambda: not messages(counted) - before, seconds=30)


SMALL = 10_000  # bytes: names and states, which are in a cycle until Python's collector runs


def test_a_large_message_is_freed_when_a_stream_is_left_in_the_middle_of_it(
    counted: httpx.Client, log: Callable[..., None], counting: str, local_flyte: LocalFlyte
) -> None:
    log(lines(*["x" * 100] * 5_000))
    before = messages(counted)
    leave(counted, f"/runs/{counting}/logs", local_flyte, "", b"data: ")
    wait_until(lambda: (messages(counted) - before).total() < SMALL, seconds=30)


def test_the_largest_inputs_and_outputs_are_readable_together(counted: httpx.Client) -> None:
    name = "x" * (2 * 2**20 - 64)  # Flyte returns up to 2 MiB of either
    run = ended(start("tests.greet", name=name))
    shown = counted.get(f"/runs/{run}/io").json()
    assert shown["inputs"]["name"] == name
    assert f"Hello, {name}." in str(shown["outputs"])

"""What requests leave in memory, and what large messages of Flyte need of it."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest
from websockets.sync.client import connect

from local_flyte import LocalFlyte
from local_flyte.testing import bearer, client_of, wait_until

from .support import environment


@pytest.fixture(scope="module")
def counted(local_flyte: LocalFlyte) -> Iterator[httpx.Client]:
    """Alice's client of an app in a process of its own, which counts Flyte's messages."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.counted", str(server.fileno())],
            env=environment({"PYTHONPATH": os.pathsep.join(sys.path)}),
            pass_fds=[server.fileno()],
        ) as process,
        client_of(f"http://127.0.0.1:{server.getsockname()[1]}", "alice") as client,
    ):
        try:
            yield client
        finally:
            process.terminate()


def leave(client: httpx.Client, path: str, flyte: LocalFlyte, call: str, waits_for: bytes) -> None:
    """Send a request, and leave while its call to Flyte is open and once this has been answered."""
    address = client.base_url.host, client.base_url.port
    with socket.create_connection(address) as connection:
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {bearer('alice')}"
        connection.sendall(request.encode() + b"\r\n\r\n")
        answer = b""
        while waits_for not in answer:
            answer += connection.recv(1 << 16)
        wait_until(lambda: flyte.open_calls(call) == 1)
    wait_until(lambda: flyte.open_calls(call) == 0)


def leave_websocket(client: httpx.Client, path: str, flyte: LocalFlyte, call: str) -> None:
    """Open a WebSocket, read a message, and leave."""
    url = str(client.base_url.copy_with(scheme="ws", raw_path=path.encode()))
    with connect(url, additional_headers={"Authorization": bearer("alice")}) as websocket:
        websocket.recv()
    wait_until(lambda: flyte.open_calls(call) == 0)


@pytest.mark.parametrize(
    ("path", "call", "waits_for"),
    [
        ("/runs/{run}/io", "GetActionData", b""),
        ("/runs/{run}/actions", "GetActionDetails", b""),
        ("/runs/{run}/report", "CreateDownloadLink", b""),
        ("/runs/{run}?wait=60", "WatchActionDetails", b""),
        ("/runs/{run}/events", "WatchActionDetails", b"data: "),
        ("/runs/{run}/actions/events", "WatchActions", b"data: "),
        ("/naive/runs/{run}/log", "TailLogs", b""),
        ("/naive/runs/{run}/live", "WatchActionDetails", None),
    ],
)
def test_a_request_whose_client_leaves_keeps_no_message_of_flytes(
    *,
    counted: httpx.Client,
    local_flyte: LocalFlyte,
    counting: str,
    path: str,
    call: str,
    waits_for: bytes | None,
) -> None:
    path = path.format(run=counting)

    def messages() -> dict[str, int]:
        return dict(counted.get("/messages").json())

    def request_and_leave() -> None:
        if waits_for is None:
            leave_websocket(counted, path, local_flyte, call)
        elif waits_for:
            leave(counted, path, local_flyte, call, waits_for)
        else:
            with local_flyte.hang(call):
                leave(counted, path, local_flyte, call, waits_for)

    request_and_leave()  # what is imported or cached at the first request
    before = messages()
    for _ in range(3):
        request_and_leave()
    wait_until(lambda: messages() == before, seconds=30)

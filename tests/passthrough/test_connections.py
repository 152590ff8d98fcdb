"""Connections to Flyte, and to the app: how many there are, and what their options are for."""

import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter, Request
from flyteidl2.task.task_service_pb2 import ListTasksRequest

from app.routers import tasks
from local_flyte import LocalFlyte
from local_flyte.testing import wait_until

from . import naive_endpoints
from .elsewhere import Elsewhere

pytestmark = pytest.mark.usefixtures("certificate")
router = APIRouter()
router.include_router(naive_endpoints.router)
router.include_router(tasks.router)


@router.get("/client")
async def client(request: Request) -> list[str]:
    return [request.client.host if request.client else "", request.url.scheme]


def sockets_to(address: str) -> Iterator[socket.socket]:
    """Yield copies of this process's sockets that are connected to an address."""
    port = int(address.rpartition(":")[2])
    for path in [*Path("/proc/self/fd").iterdir()]:
        with suppress(OSError):  # it has been closed, or it is not connected
            if path.is_socket():
                with socket.socket(fileno=os.dup(int(path.name))) as found:
                    if found.family == socket.AF_INET and found.getpeername()[1] == port:
                        yield found


def test_connections_of_many_calls_at_once_are_used_again(
    alice: httpx.Client, local_flyte: LocalFlyte
) -> None:
    used = []
    with ThreadPoolExecutor(20) as threads:
        for _ in range(2):
            with local_flyte.hang("UserInfo"):
                asked = [threads.submit(alice.get, "/whoami") for _ in range(20)]
                wait_until(lambda: local_flyte.open_calls("UserInfo") == 20)
            assert {answer.result().status_code for answer in asked} == {200}
            used.append({sent.getsockname()[1] for sent in sockets_to(local_flyte.url)})
    assert len(used[0]) >= 20
    assert used[0] == used[1]


def test_a_connection_that_has_died_is_noticed_within_30_seconds(
    alice: httpx.Client, local_flyte: LocalFlyte
) -> None:
    alice.get("/whoami")
    options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    sockets = sockets_to(local_flyte.url)  # closes each when it is asked for the next
    sent = next(sockets)
    assert sent.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    idle, interval, probes = (sent.getsockopt(socket.IPPROTO_TCP, each) for each in options)
    assert idle + interval * probes <= 30


def test_tasks_are_listed_in_the_largest_pages_that_flyte_allows(
    there: httpx.Client, elsewhere: Elsewhere
) -> None:
    elsewhere.answers(b"")
    assert there.get("/tasks").json() == []
    (asked,) = (ListTasksRequest.FromString(call["body"]) for call in elsewhere.received)
    assert asked.request.limit == 200


def test_nobody_can_name_another_address_of_the_client(alice: httpx.Client) -> None:
    sent = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
    assert alice.get("/client", headers=sent).json() == ["127.0.0.1", "http"]

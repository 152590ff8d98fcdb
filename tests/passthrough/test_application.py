"""How the app is served."""

import socket
import struct

import httpx
from fastapi import APIRouter, Request

from local_flyte.testing import wait_until

from .faulty import connected, head

router = APIRouter()


@router.get("/client")
async def client(request: Request) -> list[str]:
    return [request.client.host if request.client else "", request.url.scheme]


def test_nobody_can_name_another_address_of_the_client(alice: httpx.Client) -> None:
    sent = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
    assert alice.get("/client", headers=sent).json() == ["127.0.0.1", "http"]


def test_nothing_of_a_connection_that_was_reset_is_kept(counted: httpx.Client) -> None:
    with connected(str(counted.base_url), head("/me")) as connection:
        assert connection.recv(1 << 16)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # The server itself forgets a connection that was reset after 120 seconds.
    wait_until(lambda: not counted.get("/memory").json()["requests"], 60)

"""What is changed of the server."""

import socket
import struct

import httpx

from local_flyte.testing import wait_until

from ..faulty import connected, head


def test_nothing_of_a_connection_that_was_reset_is_kept(counted: httpx.Client) -> None:
    with connected(str(counted.base_url), head("/me")) as connection:
        assert connection.recv(1 << 16)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # The server itself forgets a connection that was reset after 120 seconds.
    wait_until(lambda: not counted.get("/memory").json()["requests"], 60)

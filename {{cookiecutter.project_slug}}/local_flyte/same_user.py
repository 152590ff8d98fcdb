"""Refuses connections of other users of this machine, if the system shows whose a connection is.

Credentials don't keep them out: browsers send a host's cookies to all of its ports, so a link to
another user's server is enough to hand them over.
"""

import functools
import logging
import os
import platform
import socket
import struct
from contextlib import suppress
from typing import Any

_accept = socket.socket.accept


def accept(listener: socket.socket) -> tuple[socket.socket, Any]:
    """Accept a connection of this user.

    Raises:
        ConnectionAbortedError: If it is another user's; servers then accept the next one.
    """
    connection, address = _accept(listener)
    if is_known() and (user := _user_of(connection)) != os.geteuid():
        connection.close()
        if user is not None:
            logging.getLogger(__name__).warning("Refused a connection of another user.")
        raise ConnectionAbortedError
    return connection, address


class Listener(socket.socket):
    """A listening socket for connections of this user."""

    accept = accept


def refuse_others() -> None:
    """Make every listening socket of this process accept only connections of this user.

    They do in Python, and so in asyncio; uvloop accepts connections by itself.
    """
    socket.socket.accept = accept  # type: ignore[assignment,method-assign]


@functools.cache
def is_known() -> bool:
    """Tell whether this system shows which user a connection belongs to, as Linux does.

    In WSL, what comes from Windows, such as from a browser there, seems to be root's.
    """
    if "microsoft" in platform.release().lower():
        return False
    with (
        suppress(AttributeError, OSError),
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()),
        _accept(listener)[0] as connection,
    ):
        return _user_of(connection) == os.geteuid()
    return False


def _user_of(connection: socket.socket) -> int | None:
    """Return the user who has the other end open, or None if nobody has: sock_diag(7)."""
    family = connection.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN)  # uvicorn guesses at it
    if family == socket.AF_UNIX:
        return os.geteuid()
    try:
        ends = connection.getpeername(), connection.getsockname()
    except OSError:  # it has left
        return None
    ports = struct.pack("!2H", *(end[1] for end in ends))
    hosts = [socket.inet_pton(family, end[0]) for end in ends]
    head = struct.pack("=BBHI", family, socket.IPPROTO_TCP, 0, 2**32 - 1)  # any state
    body = head + ports + struct.pack("=16s16sIQ", *hosts, 0, 2**64 - 1)  # without a cookie
    by_family = 20  # SOCK_DIAG_BY_FAMILY; the answer has another type if there is no such socket
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as kernel:  # NETLINK_SOCK_DIAG
        kernel.send(struct.pack("=IHHII", 16 + len(body), by_family, 1, 0, 0) + body)
        answer = kernel.recv(4096)
    kind, found = int(struct.unpack("=H", answer[4:6])[0]), answer[20:24]
    user, inode = struct.unpack("=II", answer[80:88].ljust(8, b"\0"))
    # A closed socket has no inode, and may seem to be root's.
    return int(user) if kind == by_family and found == ports and inode != 0 else None

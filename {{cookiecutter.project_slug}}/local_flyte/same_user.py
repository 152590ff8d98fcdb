"""Refuses other users of this machine, if the system shows which user a connection belongs to."""

import os
import socket
import sys
from pathlib import Path

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

TABLES = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
"""Linux lists its TCP sockets here, with the user who owns each."""
REFUSAL = "only the user who started this may use it"


def is_known() -> bool:
    """Tell whether this system shows which user a connection belongs to."""
    return TABLES[0].exists()


class SameUser:
    """ASGI middleware for servers without credentials: other users of this machine get a 403."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap ``app``, which listens on an IPv4 address."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        if scope["type"] == "lifespan" or not is_known() or _is_ours(scope):
            await self._app(scope, receive, send)
        else:
            await PlainTextResponse(REFUSAL, 403)(scope, receive, send)


def _is_ours(scope: Scope) -> bool:
    # A socket for both versions of IP is in the second table, with the same last digits.
    ends = _written(*scope["client"]), _written(*scope["server"])
    for table in TABLES:
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            fields = line.split()
            if (fields[1][-13:], fields[2][-13:]) == ends:
                # The user of a closed socket is unknown; it is listed as root's.
                return fields[9] != "0" and int(fields[7]) == os.getuid()
    return False


def _written(host: str, port: int) -> str:
    return f"{int.from_bytes(socket.inet_aton(host), sys.byteorder):08X}:{port:04X}"

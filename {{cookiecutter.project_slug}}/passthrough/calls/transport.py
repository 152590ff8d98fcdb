"""The HTTP client of calls to Flyte."""

import functools
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pyqwest
from connectrpc.code import Code
from connectrpc.errors import ConnectError

from ..limits import (
    MAX_ANSWER_BYTES,
    MAX_APP_BYTES,
    MAX_ERROR_BYTES,
    MAX_IDLE_CONNECTIONS,
    MAX_LOG_BYTES,
    MAX_MESSAGE_LINES,
)
from .errors import TooLargeError

END_OF_STREAM = 2
"""The flag of the last message of a stream, in the Connect protocol."""


class HttpClient:
    """Sends requests without following redirects, and stops reading messages that are too large.

    Each open request has a connection of its own, with HTTP/1.1: in HTTP/2 all share one, with its
    window, so a few streams that are not read stop all other calls. The Connect client checks the
    size of a message only after reading all of it.
    """

    def __init__(self, tls_ca_cert: bytes | None) -> None:
        """Trust this authority; with None, those that the system trusts."""
        self._transport = functools.partial(
            pyqwest.HTTPTransport,
            http_version=pyqwest.HTTPVersion.HTTP1,
            pool_max_idle_per_host=MAX_IDLE_CONNECTIONS,
            pool_idle_timeout=50.0,  # seconds; ingresses keep idle connections for at least 60
            tcp_keepalive_interval=5.0,  # a stream whose connection has died ends after 30 seconds
            follow_redirects=False,  # a redirect would send credentials to another host
            tls_ca_cert=tls_ca_cert,
            tls_include_system_certs=tls_ca_cert is None,
            use_system_dns=True,
            enable_otel=False,  # each call already has a span
        )
        self._connect()

    def _connect(self) -> None:
        self._client, self._since = pyqwest.Client(self._transport()), time.perf_counter()

    def forget_connections(self, since: float) -> None:
        """Make later requests on new connections: one from this ``perf_counter()`` had no answer.

        Idle connections may be dead, as after a failover: each would cost a caller the timeout.
        """
        if self._since < since:  # else they have been replaced meanwhile
            self._connect()

    async def post(self, url: str, **options: Any) -> pyqwest.FullResponse:
        """Send a request with one message, and return its response."""
        return await self._read("POST", url, MAX_ANSWER_BYTES, MAX_ERROR_BYTES, options)

    async def execute(self, method: str, url: str, **options: Any) -> pyqwest.FullResponse:
        """Send a request as pyqwest does, and return its response.

        Raises:
            TooLargeError: The response is too large.
        """
        return await self._read(method, url, MAX_APP_BYTES, MAX_APP_BYTES, options)

    async def _read(
        self, method: str, url: str, largest: int, largest_error: int, options: dict[str, Any]
    ) -> pyqwest.FullResponse:
        content = bytearray()
        async with self._client.stream(method, url, **options) as response:
            most = largest if response.status == 200 else largest_error
            async for chunk in response.content:
                content += chunk
                _check(len(content), most)
            return pyqwest.FullResponse(
                response.status, response.headers, bytes(content), response.trailers
            )

    @asynccontextmanager
    async def stream(
        self, method: str, url: str, **options: Any
    ) -> AsyncGenerator[pyqwest.Response]:
        """Send a request, and yield its response, whose content ends if a message is too large."""
        async with self._client.stream(method, url, **options) as response:
            kind = response.headers.get("content-type", "")
            is_stream = response.status == 200 and kind.startswith("application/connect+")
            largest = MAX_LOG_BYTES if url.endswith("/TailLogs") else MAX_ANSWER_BYTES
            limited = (
                _limited_messages(response, largest) if is_stream else _limited_error(response)
            )
            yield pyqwest.Response(
                status=response.status,
                headers=response.headers,
                content=limited,
                trailers=response.trailers,
            )


async def _limited_error(response: pyqwest.Response) -> AsyncGenerator[bytes]:
    size = 0
    async for chunk in response.content:
        size += len(chunk)
        _check(size, MAX_ERROR_BYTES)
        yield bytes(chunk)


async def _limited_messages(response: pyqwest.Response, largest: int) -> AsyncGenerator[bytes]:
    """Yield the chunks of a stream, until a message is too large.

    Each message starts with its flags and its length, 1 + 4 bytes. The last one has a flag, which
    the Connect client does not miss.

    Raises:
        TooLargeError: A message is too large.
        ConnectError: UNAVAILABLE, if the stream ends without its last message, or within one.
    """
    prefix, left, lines, is_last = b"", 0, 0, False
    async for chunk in response.content:
        rest = memoryview(chunk)
        while rest:
            part = rest[: left or 5 - len(prefix)]
            rest = rest[len(part) :]
            if left:
                left -= len(part)
                read = bytes(part)
                lines += read.count(b"\n") + read.count(b"\r")  # "\n" is also a line's tag
            else:
                prefix += part
                if len(prefix) == 5:
                    is_last = bool(prefix[0] & END_OF_STREAM)
                    left, lines = int.from_bytes(prefix[1:]), 0
                    prefix = b""
            _check(left, MAX_ERROR_BYTES if is_last else largest, lines)
        yield bytes(chunk)
    if left or prefix or not is_last:
        raise ConnectError(Code.UNAVAILABLE, "Flyte's stream was cut off")


def _check(size: int, most: int, lines: int = 0) -> None:
    if size > most or lines > MAX_MESSAGE_LINES:
        raise TooLargeError(
            f"a message from Flyte has more than {most} bytes, or more than"
            f" {MAX_MESSAGE_LINES} lines"
        )

"""The HTTP client of calls to Flyte."""

import functools
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pyqwest
from connectrpc.code import Code
from connectrpc.errors import ConnectError

from ..limits import limits
from .errors import TooLargeError
from .large_messages import LARGE_BYTES
from .request_calls import request_calls

END_OF_STREAM = 2
"""The flag of the last message of a stream, in the Connect protocol."""


class HttpClient:
    """Sends requests with TLS alone, follows no redirects, and stops reading what is too large.

    All that is received is charged to the request that makes the call, and its large messages wait
    for their turn (`LargeMessages`).

    Each open request has a connection of its own, with HTTP/1.1: in HTTP/2 all share one, with its
    window, so a few streams that are not read stop all other calls.
    """

    def __init__(self, tls_ca_cert: bytes | None, is_plaintext: bool) -> None:
        """Begin without connections.

        Args:
            tls_ca_cert: The authority to trust; with None, those that the system trusts.
            is_plaintext: Whether Flyte and its clusters may be called without TLS.
        """
        self._is_plaintext = is_plaintext
        self._transport = functools.partial(
            pyqwest.HTTPTransport,
            http_version=pyqwest.HTTPVersion.HTTP1,
            pool_max_idle_per_host=100,  # the default of 2 would make new ones for most calls
            pool_idle_timeout=50.0,  # seconds; ingresses keep idle connections for at least 60
            tcp_keepalive_interval=5.0,  # a stream whose connection has died ends after 30 seconds
            follow_redirects=False,  # a redirect would send credentials to another host
            tls_ca_cert=tls_ca_cert,
            tls_include_system_certs=tls_ca_cert is None,
            use_system_dns=True,
            enable_otel=False,  # its spans would hold URLs, which may be signed
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
        """Send a request with one message to Flyte, and return its response."""
        return await self._read("POST", url, options)

    async def execute(self, method: str, url: str, **options: Any) -> pyqwest.FullResponse:
        """Send a request to another app, with TLS, and return its response.

        Raises:
            ConnectError: The address has no TLS.
            TooLargeError: The response is too large.
        """
        _require_tls(url)
        return await self._read(method, url, options)

    async def _read(self, method: str, url: str, options: dict[str, Any]) -> pyqwest.FullResponse:
        content = bytearray()
        async with self._open(method, url, options) as response, _Turn() as turn:
            async for chunk in response.content:
                turn.spend(len(chunk))
                content += chunk
                await turn.expect(len(content))
            return pyqwest.FullResponse(
                response.status, response.headers, bytes(content), response.trailers
            )

    @asynccontextmanager
    async def stream(
        self, method: str, url: str, **options: Any
    ) -> AsyncGenerator[pyqwest.Response]:
        """Send a request, and yield its response, whose content ends if a message is too large."""
        async with self._open(method, url, options) as response:
            kind = response.headers.get("content-type", "")
            is_stream = response.status == 200 and kind.startswith("application/connect+")
            yield pyqwest.Response(
                status=response.status,
                headers=response.headers,
                content=_messages(response) if is_stream else _error(response),
                trailers=response.trailers,
            )

    def _open(self, method: str, url: str, options: dict[str, Any]) -> Any:
        if not self._is_plaintext:
            _require_tls(url)
        return self._client.stream(method, url, **options)


def _require_tls(url: str) -> None:
    if not url.startswith("https://"):
        address = "/".join(url.split("/")[:3])
        raise ConnectError(
            Code.INTERNAL, f"no credentials are sent to {address!r}: it is no https:// address"
        )


class _Turn:
    """Charges what is received to the request, and waits for the turn of a large message."""

    def __init__(self) -> None:
        self._calls, self._most = request_calls(), limits().answer_bytes
        self._spent = 0
        self._end: Callable[[], None] | None = None

    async def __aenter__(self) -> "_Turn":
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the turn, but let the request keep it for a message that has been received."""
        if kind:
            self._calls.spend(-self._spent)  # what has failed is not kept
        if kind and self._end:
            self._end()
        elif self._end:
            self.keep()

    def spend(self, size: int) -> None:
        """Charge this many bytes to the request.

        Raises:
            TooLargeError: The request has had too many.
        """
        self._spent += size
        self._calls.spend(size)

    async def expect(self, size: int) -> None:
        """Wait for a turn if a message of this size is large.

        Raises:
            TooLargeError: It is too large to be read.
        """
        if size > self._most:
            raise TooLargeError(f"a message from Flyte has more than {self._most} bytes")
        if size > LARGE_BYTES and not self._end:
            self._end = await self._calls.large_messages.begin()

    def keep(self) -> None:
        """Let the request keep the turn until it has used what was received."""
        if self._end:
            self._calls.large_messages.keep(self._end)
            self._end = None

    def release(self) -> None:
        """End the turns that the request keeps: it has used what was received."""
        self._calls.large_messages.release()


async def _error(response: pyqwest.Response) -> AsyncGenerator[bytes]:
    size = 0
    async with _Turn() as turn:
        async for chunk in response.content:
            turn.spend(len(chunk))
            size += len(chunk)
            await turn.expect(size)
            yield bytes(chunk)


async def _messages(response: pyqwest.Response) -> AsyncGenerator[bytes]:
    """Yield the chunks of a stream, until a message is too large.

    A message starts with its flags and its length, 1 + 4 bytes. The last message has a flag. The
    Connect client does not notice if that message never comes.

    Raises:
        TooLargeError: A message is too large, or all of them are for the request.
        ConnectError: UNAVAILABLE, if the stream ends without its last message, or within one.
    """
    prefix, left, is_last = b"", 0, False
    async with _Turn() as turn:
        async for chunk in response.content:
            turn.spend(len(chunk))
            rest, is_complete = memoryview(chunk), False
            while rest:
                part = rest[: left or 5 - len(prefix)]
                rest = rest[len(part) :]
                if left:
                    left -= len(part)
                    is_complete = is_complete or not left
                else:
                    prefix += part
                    if len(prefix) == 5:
                        is_last = bool(prefix[0] & END_OF_STREAM)
                        left, prefix = int.from_bytes(prefix[1:]), b""
                        await turn.expect(left)
            if is_complete:
                turn.keep()
            yield bytes(chunk)
            if is_complete:  # whoever reads the stream has used its message: it wants the next one
                turn.release()
                await turn.expect(left)
    if left or prefix or not is_last:
        raise ConnectError(Code.UNAVAILABLE, "Flyte's stream was cut off")

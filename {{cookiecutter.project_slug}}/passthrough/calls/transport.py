"""The HTTP client of calls to Flyte."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pyqwest
from connectrpc.code import Code
from connectrpc.errors import ConnectError

from ..limits import limits
from .received import LARGE_BYTES, check_size
from .request_calls import request_calls

END_OF_STREAM = 2
"""The flag of the last message of a stream, in the Connect protocol."""


class HttpClient:
    """Sends requests with TLS, follows no redirects, and stops reading what is too large.

    All that is received is counted as that of the request that makes the call (`Received`).

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
        transport = pyqwest.HTTPTransport(
            http_version=pyqwest.HTTPVersion.HTTP1,
            pool_max_idle_per_host=100,  # the default of 2 would make new ones for most calls
            pool_idle_timeout=50.0,  # seconds; ingresses keep idle connections for at least 60
            tcp_keepalive_interval=5.0,  # a connection that has died is closed after 30 seconds
            follow_redirects=False,  # a redirect would send credentials to another host
            tls_ca_cert=tls_ca_cert,
            tls_include_system_certs=tls_ca_cert is None,
            use_system_dns=True,
            enable_otel=False,  # its spans would hold URLs, which may be signed
        )
        self._client = pyqwest.Client(transport)

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
        async with self._open(method, url, options) as response:
            content = await _Content(response).whole()
            return pyqwest.FullResponse(
                response.status, response.headers, content, response.trailers
            )

    @asynccontextmanager
    async def stream(
        self, method: str, url: str, **options: Any
    ) -> AsyncGenerator[pyqwest.Response]:
        """Send a request, and yield its response; reading it raises if a message is too large."""
        async with self._open(method, url, options) as response:
            kind = response.headers.get("content-type", "")
            is_stream = response.status == 200 and kind.startswith("application/connect+")
            yield pyqwest.Response(
                status=response.status,
                headers=response.headers,
                content=(_messages if is_stream else _error)(_Content(response)),
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


class _Content:
    """The content of a response of Flyte's, which is counted as the request's."""

    def __init__(self, response: pyqwest.Response) -> None:
        self.received = request_calls().received
        self._chunks, self._ahead = aiter(response.content), bytearray()

    async def read(self, size: int) -> bytes:
        """Return the next bytes: as many as this, or all there are."""
        while len(self._ahead) < size and (chunk := await anext(self._chunks, None)) is not None:
            self.received.add(len(chunk))
            self._ahead += chunk
        found = bytes(self._ahead[:size])
        del self._ahead[:size]
        return found

    async def whole(self) -> bytes:
        """Return all of the content."""
        content = await self.read(LARGE_BYTES + 1)
        async with self.received.turn(len(content)):
            if len(content) > LARGE_BYTES:
                content += await self.read(limits().answer_bytes)
            check_size(len(content))
        return content


async def _error(content: _Content) -> AsyncGenerator[bytes]:
    yield await content.whole()


async def _messages(content: _Content) -> AsyncGenerator[bytes]:
    """Yield the messages of a stream, in the Connect protocol.

    A message starts with its flags and its length, 1 + 4 bytes. The last message has a flag. The
    Connect client does not notice if that message never comes.

    Raises:
        TooLargeError: A message is too large, or all that the request has received.
        ConnectError: UNAVAILABLE, if the stream ends without its last message, or within one.
    """
    is_last = False
    while not is_last:
        message = await content.read(5)
        size = 5 + int.from_bytes(message[1:])
        async with content.received.turn(size):
            message += await content.read(size - len(message))
        if len(message) < size:
            raise ConnectError(Code.UNAVAILABLE, "Flyte's stream was cut off")
        is_last = bool(message[0] & END_OF_STREAM)
        yield message
        del message
        content.received.release()  # whoever reads the stream has used its message
    await content.read(1)  # to the end, so that the connection can be used again

"""How calls to Flyte are sent, and their answers received."""

from collections.abc import AsyncGenerator

import pyqwest
from connectrpc.code import Code
from connectrpc.errors import ConnectError

from ..limits import limits
from .received import LARGE_BYTES, check_size
from .request_calls import request_calls

END_OF_STREAM = 2
"""The flag of the last message of a stream, in the Connect protocol."""


class Transport:
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
        self._http = pyqwest.HTTPTransport(
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

    async def execute(self, request: pyqwest.Request) -> pyqwest.Response:
        """Send a request, and return its response, whose content raises if it is too large."""
        if not (self._is_plaintext or request.url.startswith("https://")):
            address = "/".join(request.url.split("/")[:3])
            raise ConnectError(
                Code.INTERNAL, f"no credentials are sent to {address!r}: it is no https:// address"
            )
        response = await self._http.execute(request)
        kind = response.headers.get("content-type", "")
        is_stream = response.status == 200 and kind.startswith("application/connect+")
        return pyqwest.Response(
            status=response.status,
            headers=response.headers,
            content=(_messages if is_stream else _whole)(response),
            trailers=response.trailers,
        )


class _Content:
    """The content of a response, whose messages count for the request that made the call."""

    def __init__(self, response: pyqwest.Response) -> None:
        self.received = request_calls().received
        self._chunks, self._ahead = aiter(response.content), bytearray()

    async def read(self, size: int) -> bytes:
        """Return the next bytes: as many as this, or all there are."""
        while len(self._ahead) < size and (chunk := await anext(self._chunks, None)) is not None:
            self._ahead += chunk
        found = bytes(self._ahead[:size])
        del self._ahead[:size]
        return found


async def _whole(response: pyqwest.Response) -> AsyncGenerator[bytes]:
    """Yield all of a content at once.

    Raises:
        TooLargeError: It is too large, or all that the request has received.
    """
    async with response:
        content = _Content(response)
        message = await content.read(LARGE_BYTES + 1)
        # More than LARGE_BYTES have come only if it is large.
        async with content.received.turn(len(message)):
            if len(message) > LARGE_BYTES:
                message += await content.read(limits().answer_bytes)
            check_size(len(message))
            content.received.add(len(message))
        yield message


async def _messages(response: pyqwest.Response) -> AsyncGenerator[bytes]:
    """Yield the messages of a stream, in the Connect protocol.

    A message starts with its flags and its length, 1 + 4 bytes. The last message has a flag. The
    Connect client does not notice if that message never comes.

    Raises:
        TooLargeError: A message is too large, or all that the request has received.
        ConnectError: UNAVAILABLE, if the stream ends without its last message, or within one.
    """
    async with response:
        content, is_last = _Content(response), False
        while not is_last:
            message = await content.read(5)
            size = 5 + int.from_bytes(message[1:])
            async with content.received.turn(size):
                content.received.add(size)
                message += await content.read(size - len(message))
            if len(message) < size:
                raise ConnectError(Code.UNAVAILABLE, "Flyte's stream was cut off")
            is_last = bool(message[0] & END_OF_STREAM)
            yield message
            del message
            content.received.release()  # whoever reads the stream has used its message
        await content.read(1)  # to the end, so that the connection can be used again

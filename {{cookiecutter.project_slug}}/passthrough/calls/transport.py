"""The HTTP transport of calls to Flyte."""

from collections.abc import AsyncGenerator

import pyqwest

from .errors import TooLargeError

LARGEST_MESSAGE = 8 * 1024 * 1024
"""Bytes in one message from Flyte. The inputs or outputs of a run are limited to 2 MiB."""


class Transport:
    """Sends requests without following redirects, and stops reading messages that are too large.

    The Connect client checks the size of a message only after reading all of it.
    """

    def __init__(self, tls_ca_cert: bytes | None) -> None:
        """Trust this authority; with None, those that the system trusts."""
        self._transport = pyqwest.HTTPTransport(
            follow_redirects=False,  # a redirect would send credentials to another host
            tls_ca_cert=tls_ca_cert,
            tls_include_system_certs=tls_ca_cert is None,
            use_system_dns=True,
            enable_otel=False,  # each call already has a span
        )

    async def execute(self, request: pyqwest.Request) -> pyqwest.Response:
        """Send a request and return its response."""
        response = await self._transport.execute(request)
        length = int(response.headers.get("content-length") or LARGEST_MESSAGE + 1)
        if "transfer-encoding" in response.headers:
            length = LARGEST_MESSAGE + 1  # unknown: a Content-Length besides it is void
        is_stream = all(
            headers.get("content-type", "").startswith("application/connect+")
            for headers in (request.headers, response.headers)
        )
        if not is_stream and length <= LARGEST_MESSAGE:
            return response
        return pyqwest.Response(
            status=response.status,
            headers=response.headers,
            content=_limited(response, is_stream),
            trailers=response.trailers,
        )


async def _limited(response: pyqwest.Response, is_stream: bool) -> AsyncGenerator[bytes]:
    """Yield the chunks of a response, until a message is too large.

    In a stream, each message starts with a flag and its length, 1 + 4 bytes.
    """
    prefix, left = b"", 0 if is_stream else LARGEST_MESSAGE
    async with response:
        async for chunk in response.content:
            rest = memoryview(chunk)
            while rest:
                part = rest[: left or 5 - len(prefix)]
                rest = rest[len(part) :]
                if left:
                    left -= len(part)
                    continue
                prefix += part
                if is_stream and len(prefix) == 5:
                    prefix, left = b"", int.from_bytes(prefix[1:])
                if left > LARGEST_MESSAGE or not is_stream:
                    raise TooLargeError(
                        f"a message from Flyte is larger than {LARGEST_MESSAGE} bytes"
                    )
            yield bytes(chunk)

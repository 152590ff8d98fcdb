"""Changes the sessions of the SDK, through which the SDK sends all calls to Flyte.

The changed sessions have timeouts, follow no redirects, and end with the request of the caller.
"""

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit

import httpx
import pyqwest
from connectrpc.code import Code
from connectrpc.errors import ConnectError

from ..limits import limits
from .interceptor import CallerInterceptor
from .request_state import this_request
from .sdk import NotForManyCallersError, sdk_object
from .slots import LARGE_MESSAGE

SMALL = ("/UserInfo", "/SelectCluster")
"""Calls whose responses are always small. The transport reads the headers and the body of a small
response together. A separate read of the body would add a switch between threads, which takes 10 %
of the time of ``GET /me``."""
is_rerun = ContextVar("is_rerun", default=False)
"""Whether ``flyte.rerun`` is running in the current context."""
RERUN_DIVISOR = 5
"""A rerun fetches the details of the earlier run. For these details, the app divides
``max_message_bytes`` by this number, because the SDK keeps three copies of the task in memory."""
LIST_DIVISOR = 20
"""The maximum size of a page of a list is ``max_received_bytes`` divided by this number, so that a
list of this many entries is never too large in total."""


def change_sessions() -> None:
    """Replace the sessions of the SDK, and do not use the SDK's cache of clusters.

    Without the cache, the SDK asks Flyte for the cluster in each request.
    """
    controlplane = sdk_object("flyte.remote._client.controlplane")
    create, kind = controlplane.create_session_config, controlplane.SessionConfig
    connect_kwargs = kind.connect_kwargs
    # Each key contains the address of a cluster and the address of Flyte. In the key of the session
    # for Flyte itself, both addresses are the same.
    sessions = dict[tuple[str, str], Any]()

    def uncompressed(self: Any) -> dict[str, Any]:
        # Without compression, the length field in front of a message is the size of the message.
        # Therefore the app can refuse or delay a large message before the message arrives.
        return {**connect_kwargs(self), "accept_compression": (), "send_compression": None}

    async def create_session_config(
        address: str, api_key: Any = None, /, *, auth_endpoint: str = "", **options: Any
    ) -> Any:
        if api_key or options.get("auth_type") != "Passthrough":
            raise NotForManyCallersError(
                "with credentials of its own the app would act as itself for all callers;"
                " initialise Flyte with flyte.init_passthrough.aio()"
            )
        if flyte := auth_endpoint:  # if this is set, `address` is the address of a cluster
            # The open-source Flyte returns its own address as the address of the cluster. Behind a
            # TLS proxy, the returned address begins with http://, so compare without the scheme.
            if urlsplit(address).netloc == urlsplit(flyte).netloc:
                address = flyte
            if session := sessions.get((address, flyte)):
                return session
        # The SDK creates an HTTP client that only sign-in uses. To load certificates for this
        # client would take 50 ms, so pass a transport without certificates.
        unused = {"rpc_retries": None, "transport": httpx.AsyncBaseTransport()}
        sdk_session = await create(address, **(options | unused))
        is_plaintext = sdk_session.insecure
        session = dataclasses.replace(
            sdk_session,
            interceptors=(CallerInterceptor(is_plaintext),),
            http_client=pyqwest.Client(Transport(sdk_session.tls_ca_cert, is_plaintext)),
        )
        endpoint = sdk_session.endpoint
        sessions[(address, flyte) if flyte else (endpoint, endpoint)] = session
        return session

    async def get_or_compute(_: Any, __: Any, factory: Callable[[], Awaitable[Any]]) -> Any:
        return await factory()  # do not use the cache, because all callers would share it

    kind.connect_kwargs = uncompressed
    controlplane.create_session_config = create_session_config
    sdk_object("flyte._utils.async_cache:ThreadSafeCache").get_or_compute = get_or_compute


class Transport:
    """Sends requests with TLS, follows no redirects, and refuses late or too large responses.

    The transport uses HTTP/1.1, so that each open request has a separate connection. With HTTP/2,
    all requests would share one connection and its flow control window, so a few streams that the
    app does not read would block all other calls.
    """

    def __init__(self, tls_ca_cert: bytes | None, is_plaintext: bool) -> None:
        """Configure connections. The first request opens a connection.

        Args:
            tls_ca_cert: The certificate of a CA to trust instead of the system's certificates.
            is_plaintext: Whether to send requests to addresses without TLS.
        """
        self._is_plaintext = is_plaintext
        self._http = pyqwest.HTTPTransport(
            http_version=pyqwest.HTTPVersion.HTTP1,
            pool_max_idle_per_host=100,  # with pyqwest's default of 2, most calls would reconnect
            pool_idle_timeout=50.0,  # seconds; ingresses keep idle connections for at least 60
            tcp_keepalive_interval=5.0,  # seconds; closes a dead connection after 30 seconds
            follow_redirects=False,  # a redirect would send credentials to another host
            tls_ca_cert=tls_ca_cert,
            tls_include_system_certs=tls_ca_cert is None,
            use_system_dns=True,
            enable_otel=False,  # OpenTelemetry spans would contain URLs, which may be signed
        )
        self._client = pyqwest.Client(self._http)

    async def execute(self, request: pyqwest.Request) -> pyqwest.Response:
        """Send a request, and return the response.

        In a unary response, the timeout applies to the headers and to each part of the body
        separately. In a stream, the timeout applies only to the first message. The log of a task
        (``TailLogs``) has no timeout.

        Raises:
            ConnectError: The address has no TLS, or the response is too large.
            TimeoutError: Flyte does not respond in time.
        """
        if not (self._is_plaintext or request.url.startswith("https://")):
            address = "/".join(request.url.split("/")[:3])
            raise ConnectError(
                Code.INTERNAL,
                f"no credentials are sent to {address!r}: the address must begin with https://",
            )
        seconds = None if request.url.endswith("/TailLogs") else this_request().deadline.timeout
        async with asyncio.timeout(seconds):
            if request.url.endswith(SMALL):
                whole = await self._client.execute(
                    request.method, request.url, request.headers, request.content
                )
                return pyqwest.Response(
                    status=whole.status, headers=whole.headers, content=whole.content
                )
            response = await self._http.execute(request)
            kind = response.headers.get("content-type", "")
        max_bytes = limits().max_message_bytes
        if is_rerun.get() and request.url.endswith("Details"):
            max_bytes //= RERUN_DIVISOR
        if request.url.rpartition("/")[2].startswith("List"):
            max_bytes = min(max_bytes, limits().max_received_bytes // LIST_DIVISOR)
        if response.status == 200 and kind.startswith("application/connect+"):
            content: Any = _messages(response, seconds, max_bytes)
        else:
            content = await _whole(response, seconds, max_bytes)
        return pyqwest.Response(
            status=response.status,
            headers=response.headers,
            content=content,
            trailers=response.trailers,
        )


async def _whole(response: pyqwest.Response, seconds: float | None, max_bytes: int) -> bytes:
    """Return the body of a unary response. If the body is large, wait for a memory slot."""
    async with response:
        state, message = this_request(), bytearray()
        length = response.headers.get("content-length")
        parts = aiter(response.content)
        try:
            # If Flyte has sent a content length, stop after this number of bytes, and do not wait
            # for the end of the stream.
            while len(message) <= max_bytes and str(len(message)) != length:
                async with asyncio.timeout(seconds):
                    if (part := await anext(parts, None)) is None:
                        break
                message += part
                if len(message) > LARGE_MESSAGE:
                    # `ResponseSender` or `release_messages` releases this slot. The duration of a
                    # call does not include the wait for the slot.
                    state.slot.users.add(parts)
                    state.calls.seconds -= await state.slot.acquire(state.deadline)
        finally:
            state.slot.users.discard(parts)
        state.receive(len(message), max_bytes)
        return bytes(message)


async def _messages(
    response: pyqwest.Response, seconds: float | None, max_bytes: int
) -> AsyncGenerator[bytes]:
    """Yield the messages of a stream in the Connect protocol. Only the first message has a timeout.

    A message starts with flags (1 byte) and a length (4 bytes). In the last message of a complete
    stream, the flag with the value 2 is set. Raise an error if the stream is incomplete, because
    the Connect client does not notice that.
    """
    async with response:
        state, chunks, buffer, is_last = this_request(), aiter(response.content), bytearray(), False

        async def read(size: int) -> bytes:
            """Return ``size`` bytes, or fewer at the end of the stream."""
            while len(buffer) < size and (chunk := await anext(chunks, None)) is not None:
                buffer.extend(chunk)
            part = bytes(buffer[:size])
            del buffer[:size]
            return part

        while not is_last:
            # The app no longer needs the earlier messages when it reads the next message.
            state.slot.release()
            async with asyncio.timeout(seconds):
                message = await read(5)
            size = 5 + int.from_bytes(message[1:])
            state.receive(size, max_bytes)
            if size > LARGE_MESSAGE:
                await state.slot.acquire(state.deadline)
            async with asyncio.timeout(seconds):
                message += await read(size - len(message))
            # Another call of the request may have released the slot in the meantime.
            if size > LARGE_MESSAGE:
                await state.slot.acquire(state.deadline)
            seconds = None
            if len(message) < size:
                raise ConnectError(Code.UNAVAILABLE, "the stream from Flyte is incomplete")
            is_last = bool(message[0] & 2)
            yield message[:-1]
            # The Connect client keeps the last part in memory, so the last part has only one byte.
            message = message[-1:]
            yield message
        await read(1)  # read to the end of the stream, so that the connection can be reused

"""Makes the SDK's sessions safe: how every call is sent, and its answer received."""

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Awaitable, Callable
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
"""Calls whose answers are read in one step, because Flyte keeps them small. To read the body later
means to change threads once more, which takes a tenth of ``GET /me``."""


def change_sessions() -> None:
    """Make every session one of ours, and let each caller ask Flyte which cluster to use."""
    controlplane = sdk_object("flyte.remote._client.controlplane")
    create, kind = controlplane.create_session_config, controlplane.SessionConfig
    connect_kwargs = kind.connect_kwargs
    sessions = dict[tuple[str, str], Any]()  # by a cluster's address, and that of its Flyte

    def uncompressed(self: Any) -> dict[str, Any]:
        # The size in front of a message is then its real one, and small ones are sent sooner.
        return {**connect_kwargs(self), "accept_compression": (), "send_compression": None}

    async def create_session_config(
        address: str, api_key: Any = None, /, *, auth_endpoint: str = "", **options: Any
    ) -> Any:
        if api_key or options.get("auth_type") != "Passthrough":
            raise NotForManyCallersError(
                "with an identity of its own the app would act as itself for everybody; initialise"
                " Flyte with flyte.init_passthrough.aio()"
            )
        if flyte := auth_endpoint:  # the address is a cluster's
            # The open-source Flyte names its own host with http:// behind a TLS proxy.
            if urlsplit(address).netloc == urlsplit(flyte).netloc:
                address = flyte
            if known := sessions.get((address, flyte)):
                return known
        # No retries, and no HTTP client for signing in: loading its certificates takes 50 ms.
        unused = {"rpc_retries": None, "transport": httpx.AsyncBaseTransport()}
        made = await create(address, **(options | unused))
        session = dataclasses.replace(
            made,
            interceptors=(CallerInterceptor(made.insecure),),
            http_client=pyqwest.Client(Transport(made.tls_ca_cert, made.insecure)),
        )
        sessions[(address, flyte) if flyte else (made.endpoint, made.endpoint)] = session
        return session

    async def get_or_compute(_: Any, __: Any, factory: Callable[[], Awaitable[Any]]) -> Any:
        return await factory()

    kind.connect_kwargs = uncompressed
    controlplane.create_session_config = create_session_config
    sdk_object("flyte._utils.async_cache:ThreadSafeCache").get_or_compute = get_or_compute


class Transport:
    """Sends requests with TLS, follows no redirects, and stops reading what is late or too large.

    Each open request has a connection of its own, with HTTP/1.1: in HTTP/2 all share one, with its
    window, so a few streams that are not read stop all other calls.
    """

    def __init__(self, tls_ca_cert: bytes | None, is_plaintext: bool) -> None:
        """Trust this authority, or those of the system; with `is_plaintext`, also without TLS."""
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
        self._client = pyqwest.Client(self._http)

    async def execute(self, request: pyqwest.Request) -> pyqwest.Response:
        """Send a request, and return its response; raise an error if that is too large.

        An answer has a time limit, and so has the first message of a watch.
        """
        if not (self._is_plaintext or request.url.startswith("https://")):
            address = "/".join(request.url.split("/")[:3])
            raise ConnectError(
                Code.INTERNAL, f"no credentials are sent to {address!r}: it is no https:// address"
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
        is_stream = response.status == 200 and kind.startswith("application/connect+")
        return pyqwest.Response(
            status=response.status,
            headers=response.headers,
            content=_messages(response, seconds) if is_stream else await _whole(response, seconds),
            trailers=response.trailers,
        )


async def _whole(response: pyqwest.Response, seconds: float | None) -> bytes:
    """Return a whole response; wait for a memory slot if it is large."""
    async with response:
        state, message, most = this_request(), bytearray(), limits().max_message_bytes
        length = response.headers.get("content-length")
        parts = aiter(response.content)
        # The end need not be waited for if the length was told.
        while len(message) <= most and str(len(message)) != length:
            async with asyncio.timeout(seconds):
                if (part := await anext(parts, None)) is None:
                    break
            message += part
            if len(message) > LARGE_MESSAGE:
                state.calls.seconds -= await state.message_slot.acquire()  # the wait is not Flyte's
        state.receive(len(message))
        return bytes(message)


async def _messages(response: pyqwest.Response, seconds: float | None) -> AsyncGenerator[bytes]:
    """Yield the messages of a stream, in the Connect protocol; a late first one is an error.

    A message starts with its flags and its length, 1 + 4 bytes. The last one has the flag 2: the
    Connect client does not notice if it never comes.
    """
    async with response:
        state, chunks, ahead, is_last = this_request(), aiter(response.content), bytearray(), False

        async def read(size: int) -> bytes:
            """Return the next bytes: as many as this, or all there are."""
            while len(ahead) < size and (chunk := await anext(chunks, None)) is not None:
                ahead.extend(chunk)
            found = bytes(ahead[:size])
            del ahead[:size]
            return found

        while not is_last:
            state.message_slot.release()  # the next message is asked for: earlier ones were used
            async with asyncio.timeout(seconds):
                message = await read(5)
            size = 5 + int.from_bytes(message[1:])
            state.receive(size)
            if size > LARGE_MESSAGE:
                await state.message_slot.acquire()
            async with asyncio.timeout(seconds):
                message += await read(size - len(message))
            seconds = None
            if len(message) < size:
                raise ConnectError(Code.UNAVAILABLE, "Flyte's stream was cut off")
            is_last = bool(message[0] & 2)
            yield message[:-1]
            message = message[-1:]  # alone: the client keeps what it was given last
            yield message
        await read(1)  # to the end, so that the connection can be used again

"""Makes the SDK's sessions safe: every call goes through one."""

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pyqwest
from connectrpc.codec import proto_binary_codec
from flyteidl2.dataproxy.dataproxy_service_pb2 import TailLogsResponse

from .addresses import trusted
from .errors import NotForManyCallersError, TooLargeError
from .interceptor import CallerInterceptor
from .sdk import part
from .transport import Transport

MOST_SESSIONS = 16
MOST_LINES = 100_000
"""Lines of a log in one message. Flyte sends far fewer; decoding more would block other callers."""


class Codec:
    """The encoding of messages."""

    def __init__(self) -> None:
        binary = proto_binary_codec()
        self.name, self.encode, self._decode = binary.name, binary.encode, binary.decode

    def decode(self, data: bytes | bytearray, message: Any) -> Any:
        """Decode a message."""
        # Each line has this byte at least once, as its tag.
        if isinstance(message, TailLogsResponse) and data.count(b"\n") > 2 * MOST_LINES:
            raise TooLargeError(f"a message of a log has more than {MOST_LINES} lines")
        return self._decode(data, message)


def change_sessions() -> None:
    """Make every session, from ``flyte.init*`` or for a cluster, one of ours."""
    controlplane = part("flyte.remote._client.controlplane")
    create, kind = controlplane.create_session_config, controlplane.SessionConfig
    connect_kwargs, codec = kind.connect_kwargs, Codec()
    sessions: dict[tuple[str, str], Any] = {}  # by address and Flyte's; the last used at the end

    def changed_kwargs(self: Any) -> dict[str, Any]:
        # A message then has its size in front, and small ones are sent sooner.
        changed = {"accept_compression": (), "send_compression": None, "codec": codec}
        return {**connect_kwargs(self), **changed}

    async def create_session_config(
        endpoint: str,
        api_key: str | None = None,
        /,
        *,
        auth_endpoint: str | None = None,
        **options: Any,
    ) -> Any:
        if api_key or options.get("auth_type") != "Passthrough":
            raise NotForManyCallersError(
                "with an identity of its own the app would act as itself for everybody; initialise"
                " Flyte with flyte.init_passthrough.aio()"
            )
        if auth_endpoint:  # for a cluster
            endpoint = trusted(endpoint, auth_endpoint)
            if known := sessions.pop((endpoint, auth_endpoint), None):
                sessions[endpoint, auth_endpoint] = known
                return known
        # No retries, and no HTTP client for signing in: loading its certificates takes 50 ms.
        unused = {"rpc_retries": None, "transport": httpx.AsyncBaseTransport()}
        made = await create(endpoint, **(options | unused))
        transport = Transport(made.tls_ca_cert)
        session = dataclasses.replace(
            made,
            interceptors=(CallerInterceptor(made.insecure, transport),),
            http_client=pyqwest.Client(transport=transport),
        )
        sessions[made.endpoint, auth_endpoint or made.endpoint] = session
        for unused_for_long in [*sessions][:-MOST_SESSIONS]:
            del sessions[unused_for_long]  # its connections are closed once no call is left
        return session

    kind.connect_kwargs = changed_kwargs
    controlplane.create_session_config = create_session_config

    # Each caller must ask Flyte for itself which cluster it may use.
    async def get_or_compute(_: Any, __: Any, factory: Callable[[], Awaitable[Any]]) -> Any:
        return await factory()

    part("flyte._utils.async_cache:ThreadSafeCache").get_or_compute = get_or_compute

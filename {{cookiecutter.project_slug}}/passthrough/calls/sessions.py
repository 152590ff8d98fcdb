"""Makes the SDK's sessions safe: every call goes through one."""

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import pyqwest

from .errors import NotForManyCallersError
from .interceptor import CallerInterceptor
from .sdk import sdk_object
from .transport import Transport


def change_sessions() -> None:
    """Make every session one of ours, and let each caller ask Flyte which cluster to use."""
    controlplane = sdk_object("flyte.remote._client.controlplane")
    create, kind = controlplane.create_session_config, controlplane.SessionConfig
    connect_kwargs = kind.connect_kwargs
    sessions: dict[tuple[str, str], Any] = {}  # by the address that is asked for, and Flyte's

    def uncompressed(self: Any) -> dict[str, Any]:
        # A message then has its size in front, and small ones are sent sooner.
        return {**connect_kwargs(self), "accept_compression": (), "send_compression": None}

    async def create_session_config(
        address: str,
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

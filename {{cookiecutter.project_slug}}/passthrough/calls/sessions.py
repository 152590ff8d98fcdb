"""Makes the SDK's sessions safe: every call goes through one."""

import dataclasses
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from connectrpc.code import Code
from connectrpc.errors import ConnectError

from ..limits import MAX_SESSIONS
from .addresses import trusted
from .errors import NotForManyCallersError
from .interceptor import CallerInterceptor
from .sdk import sdk_object
from .transport import HttpClient


def change_sessions() -> None:
    """Make every session one of ours, and let each caller ask Flyte which cluster to use."""
    _change_sessions()
    _change_uploads()

    async def get_or_compute(_: Any, __: Any, factory: Callable[[], Awaitable[Any]]) -> Any:
        return await factory()

    sdk_object("flyte._utils.async_cache:ThreadSafeCache").get_or_compute = get_or_compute


def _change_sessions() -> None:
    """Replace what makes sessions, for ``flyte.init*`` and for clusters."""
    controlplane = sdk_object("flyte.remote._client.controlplane")
    create, kind = controlplane.create_session_config, controlplane.SessionConfig
    connect_kwargs = kind.connect_kwargs
    clusters: dict[tuple[str, str], Any] = {}  # the sessions, by their address and Flyte's

    def uncompressed(self: Any) -> dict[str, Any]:
        # A message then has its size in front, and small ones are sent sooner.
        return {**connect_kwargs(self), "accept_compression": (), "send_compression": None}

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
            if known := clusters.get((endpoint, auth_endpoint)):
                return known
        # No retries, and no HTTP client for signing in: loading its certificates takes 50 ms.
        unused = {"rpc_retries": None, "transport": httpx.AsyncBaseTransport()}
        made = await create(endpoint, **(options | unused))
        client = HttpClient(made.tls_ca_cert)
        session = dataclasses.replace(
            made,
            interceptors=(CallerInterceptor(made.insecure, client),),
            http_client=client,
        )
        clusters[made.endpoint, auth_endpoint or made.endpoint] = session
        for oldest in [*clusters][:-MAX_SESSIONS]:
            del clusters[oldest]  # its connections are closed once no call is left
        return session

    kind.connect_kwargs = uncompressed
    controlplane.create_session_config = create_session_config


def _change_uploads() -> None:
    """Report an address or a header that HTTP does not allow as Flyte's mistake, and no bug."""
    data = sdk_object("flyte.remote._data")
    put = data._put_signed_url_with_retry

    @functools.wraps(put)
    async def put_signed_url(*args: Any, **options: Any) -> Any:
        try:
            return await put(*args, **options)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError):
            refused = "the address that Flyte has signed for an upload cannot be used"
            raise ConnectError(Code.INTERNAL, refused) from None

    data._put_signed_url_with_retry = put_signed_url

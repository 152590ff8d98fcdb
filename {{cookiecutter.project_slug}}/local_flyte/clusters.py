"""ClusterService: the address of the cluster that stores data."""

from typing import Any

from connectrpc.request import RequestContext
from flyteidl2.cluster import payload_pb2, service_connect

from .modes import Mode


class ClusterService(service_connect.ClusterService):
    """Returns this Flyte's address, as the only cluster."""

    def __init__(self, mode: Mode) -> None:
        self._mode = mode
        self.endpoint: str | None = None
        """The address to return; None for the one that the caller used."""

    async def select_cluster(
        self, request: payload_pb2.SelectClusterRequest, ctx: RequestContext[Any, Any]
    ) -> payload_pb2.SelectClusterResponse:
        """Return the address that the caller used.

        The open-source Flyte does not see TLS that ends at a proxy, unless the proxy sets a header.
        """
        headers = ctx.request_headers()
        scheme = "https"
        if self._mode is not Mode.UNION:
            forwarded = headers.get("x-forwarded-proto", "").split(",")[0].strip().lower()
            scheme = forwarded if forwarded in {"http", "https"} else "http"
        here = f"{scheme}://{headers.get('host')}"
        return payload_pb2.SelectClusterResponse(cluster_endpoint=self.endpoint or here)

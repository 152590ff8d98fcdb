"""ClusterService: which cluster has the data."""

from typing import Any

from connectrpc.request import RequestContext
from flyteidl2.cluster import payload_pb2, service_connect

from .modes import Mode


class ClusterService(service_connect.ClusterService):
    """Answers that there is only one cluster, this one."""

    def __init__(self, mode: Mode) -> None:
        self._mode = mode
        self.endpoint: str | None = None
        """Where the data is said to be; None for the address that the caller has called."""

    async def select_cluster(
        self, request: payload_pb2.SelectClusterRequest, ctx: RequestContext[Any, Any]
    ) -> payload_pb2.SelectClusterResponse:
        """Name the address that was called.

        The open-source Flyte does not see the TLS that ends in front of it: that takes a proxy
        which says so.
        """
        headers = ctx.request_headers()
        scheme = "https"
        if self._mode is not Mode.UNION:
            forwarded = headers.get("x-forwarded-proto", "").split(",")[0].strip().lower()
            scheme = forwarded if forwarded in {"http", "https"} else "http"
        here = f"{scheme}://{headers.get('host')}"
        return payload_pb2.SelectClusterResponse(cluster_endpoint=self.endpoint or here)

"""ClusterService: which cluster has the data."""

from typing import Any

from connectrpc.request import RequestContext
from flyteidl2.cluster import payload_pb2, service_connect


class ClusterService(service_connect.ClusterService):
    """Answers that there is only one cluster, this one."""

    def __init__(self, scheme: str) -> None:
        self._scheme = scheme
        self.endpoint: str | None = None
        """Where the data is said to be; None for the address that the caller has called."""

    async def select_cluster(
        self, request: payload_pb2.SelectClusterRequest, ctx: RequestContext[Any, Any]
    ) -> payload_pb2.SelectClusterResponse:
        """Name the address that was called."""
        del request
        here = f"{self._scheme}://{ctx.request_headers().get('host')}"
        return payload_pb2.SelectClusterResponse(cluster_endpoint=self.endpoint or here)

"""ClusterService: which cluster has the data."""

from typing import Any

from connectrpc.request import RequestContext
from flyteidl2.cluster import payload_pb2, service_connect


class ClusterService(service_connect.ClusterService):
    """Answers that there is only one cluster, this one."""

    async def select_cluster(
        self, request: payload_pb2.SelectClusterRequest, ctx: RequestContext[Any, Any]
    ) -> payload_pb2.SelectClusterResponse:
        """Answer without an endpoint: stay here."""
        del request, ctx
        return payload_pb2.SelectClusterResponse()

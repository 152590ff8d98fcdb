"""ProjectService and ClusterService: the only project, and the only cluster."""

import re

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.cluster import payload_pb2, service_connect
from flyteidl2.project import project_service_connect
from flyteidl2.project import project_service_pb2 as pb

from .access import CALLER, Context
from .listing import offset_of
from .people import Mode

DOMAINS = ("development", "production", "staging")


class ProjectService(project_service_connect.ProjectService):
    """Shows the project to those who have rights on it."""

    def __init__(self, project: str, domain: str) -> None:
        self._project = pb.Project(
            id=project,
            name=project,
            description="The project of the local Flyte",
            domains=[pb.Domain(id=each, name=each) for each in dict.fromkeys((*DOMAINS, domain))],
        )

    def check(self, name: str) -> None:
        """Raise NOT_FOUND for a project that does not exist. Domains are not checked."""
        if name not in {self._project.id, "system"}:  # that of the task which builds images
            raise ConnectError(Code.NOT_FOUND, f"project {name!r} not found")

    def _matches(self, filters: str) -> bool:
        # In the SDK's format: eq(name, flytesnacks)+eq(state, 0)
        columns = {"name": self._project.name, "state": str(self._project.state)}
        asked = re.findall(r"eq\((\w+),\s*(.*?)\s*\)", filters)
        return all(columns.get(name) == value for name, value in asked)

    async def list_projects(
        self, request: pb.ListProjectsRequest, ctx: Context
    ) -> pb.ListProjectsResponse:
        """List the project, if the caller may view it."""
        someone = CALLER.get()
        visible = (someone is None or someone.can_view) and self._matches(request.filters)
        start = offset_of(request.token)
        found = [self._project] if visible and start == 0 else []
        return pb.ListProjectsResponse(
            projects=pb.Projects(
                projects=found,
                # A full page has a token, even if it is the last one.
                token="1" if found and request.limit == 1 else "",
            )
        )

    async def get_project(
        self, request: pb.GetProjectRequest, ctx: Context
    ) -> pb.GetProjectResponse:
        self.check(request.id)
        return pb.GetProjectResponse(project=self._project)


class ClusterService(service_connect.ClusterService):
    """Returns this Flyte's address, as the only cluster."""

    def __init__(self, mode: Mode) -> None:
        self._scheme = "http" if mode is Mode.DEVBOX else "https"
        self.endpoint: str | None = None
        """The address to return; None for the one that the caller used."""

    async def select_cluster(
        self, request: payload_pb2.SelectClusterRequest, ctx: Context
    ) -> payload_pb2.SelectClusterResponse:
        """Return the address that the caller used.

        The open-source Flyte does so only behind a proxy that sets X-Forwarded-Proto.
        """
        here = f"{self._scheme}://{ctx.request_headers().get('host')}"
        return payload_pb2.SelectClusterResponse(cluster_endpoint=self.endpoint or here)

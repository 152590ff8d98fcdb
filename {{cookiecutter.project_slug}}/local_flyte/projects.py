"""ProjectService: the one project there is."""

from typing import Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.request import RequestContext
from flyteidl2.project import project_service_connect, project_service_pb2

from .access import caller

DOMAINS = ("development", "staging", "production")


class ProjectService(project_service_connect.ProjectService):
    """Shows the project to those who have rights on it."""

    def __init__(self, project: str, domain: str) -> None:
        self._project = project_service_pb2.Project(
            id=project,
            name=project,
            description="The project of the local Flyte",
            domains=[
                project_service_pb2.Domain(id=each, name=each)
                for each in dict.fromkeys((*DOMAINS, domain))
            ],
        )

    async def list_projects(
        self, request: project_service_pb2.ListProjectsRequest, ctx: RequestContext[Any, Any]
    ) -> project_service_pb2.ListProjectsResponse:
        """List the project for those who may view it, nothing for others."""
        del ctx
        # The SDK always filters by state, and the state is always active.
        archived = f"eq(state,{project_service_pb2.PROJECT_STATE_ARCHIVED})" in request.filters
        return project_service_pb2.ListProjectsResponse(
            projects=project_service_pb2.Projects(
                projects=[self._project] if caller().can_view and not archived else []
            )
        )

    async def get_project(
        self, request: project_service_pb2.GetProjectRequest, ctx: RequestContext[Any, Any]
    ) -> project_service_pb2.GetProjectResponse:
        """Show the project."""
        del ctx
        if request.id != self._project.id:
            raise ConnectError(Code.NOT_FOUND, f"no project {request.id}")
        return project_service_pb2.GetProjectResponse(project=self._project)

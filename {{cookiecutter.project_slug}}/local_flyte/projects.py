"""ProjectService: the only project."""

import re
from typing import Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.request import RequestContext
from flyteidl2.project import project_service_connect, project_service_pb2

from .access import caller
from .listing import offset_of

DOMAINS = ("development", "production", "staging")
COLUMNS = ("created_at", "description", "id", "identifier", "name", "state", "updated_at")
"""The columns that projects can be sorted by."""


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

    def check(self, name: str) -> None:
        """Raise NOT_FOUND for a project that does not exist. Domains are not checked."""
        if name != self._project.id:
            raise ConnectError(Code.NOT_FOUND, f"project {name!r} not found")

    def _matches(self, filters: str) -> bool:
        # In the SDK's format: eq(name, flytesnacks)+eq(state, 0)
        project = self._project
        columns = {
            **dict.fromkeys(("id", "identifier"), project.id),
            "name": project.name,
            "state": str(project.state),
        }
        for each in filter(None, filters.split("+")):
            found = re.fullmatch(r"\s*eq\((\w+),\s*(.*?)\s*\)\s*", each)
            if found is None or found[1] not in columns:
                raise ConnectError(
                    Code.UNIMPLEMENTED, f"the local Flyte has no filter {each!r} for projects"
                )
            if columns[found[1]] != found[2]:
                return False
        return True

    async def list_projects(
        self, request: project_service_pb2.ListProjectsRequest, ctx: RequestContext[Any, Any]
    ) -> project_service_pb2.ListProjectsResponse:
        """List the project, if the caller may view it."""
        if request.sort_by.key and request.sort_by.key not in COLUMNS:
            raise ConnectError(Code.INVALID_ARGUMENT, f"no column {request.sort_by.key!r}")
        someone = caller()
        visible = (someone is None or someone.can_view) and self._matches(request.filters)
        start = offset_of(request.token)
        found = [self._project] if visible and start == 0 else []
        return project_service_pb2.ListProjectsResponse(
            projects=project_service_pb2.Projects(
                projects=found,
                # A full page has a token, even if it is the last one.
                token="1" if found and request.limit == 1 else "",
            )
        )

    async def get_project(
        self, request: project_service_pb2.GetProjectRequest, ctx: RequestContext[Any, Any]
    ) -> project_service_pb2.GetProjectResponse:
        """Show the project."""
        self.check(request.id)
        return project_service_pb2.GetProjectResponse(project=self._project)

"""The Flyte projects that the caller may see."""

from fastapi import APIRouter
from flyteidl2.common.list_pb2 import Sort
from flyteidl2.project.project_service_pb2 import PROJECT_STATE_ACTIVE, ListProjectsRequest
from pydantic import BaseModel, Field

from ..dependencies import FlyteDep

router = APIRouter(tags=["projects"])

PAGE = 200  # as many as Flyte returns at once
MOST = 10_000


class Project(BaseModel):
    """A Flyte project."""

    id: str = Field(examples=["flytesnacks"])
    name: str
    description: str
    domains: list[str] = Field(examples=[["development", "staging", "production"]])


@router.get("/projects", summary="List projects")
async def list_projects(flyte: FlyteDep) -> list[Project]:
    """List the active projects that the caller may see, oldest first."""
    request = ListProjectsRequest(
        limit=PAGE,
        filters=f"eq(state, {PROJECT_STATE_ACTIVE})",
        sort_by=Sort(key="created_at", direction=Sort.ASCENDING),
    )
    projects: list[Project] = []
    while len(projects) < MOST:
        found = (await flyte.projects.list_projects(request)).projects
        projects += [
            Project(
                id=project.id,
                name=project.name,
                description=project.description,
                domains=[domain.id for domain in project.domains],
            )
            for project in found.projects
        ]
        if not found.token or len(found.projects) < PAGE:
            break
        request.token = found.token
    return projects

"""The Flyte projects that the caller may see."""

from typing import Self

from fastapi import APIRouter
from flyte import remote
from pydantic import BaseModel, Field

router = APIRouter(tags=["projects"])


class Project(BaseModel):
    """A Flyte project."""

    id: str = Field(examples=["flytesnacks"])
    name: str
    description: str
    domains: list[str] = Field(examples=[["development", "staging", "production"]])

    @classmethod
    def of(cls, project: remote.Project) -> Self:
        """Convert a project of the SDK."""
        found = project.pb2
        return cls(
            id=found.id,
            name=found.name,
            description=found.description,
            domains=[domain.id for domain in found.domains],
        )


@router.get("/projects", summary="List projects")
async def list_projects() -> list[Project]:
    """List the active projects that the caller may see, oldest first."""
    return [Project.of(project) async for project in remote.Project.listall.aio()]

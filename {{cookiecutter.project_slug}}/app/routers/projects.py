"""The Flyte projects that the caller may see."""

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


@router.get("/projects", summary="List projects")
async def list_projects() -> list[Project]:
    """List the active projects that the caller may see."""
    return [
        Project(
            id=project.pb2.id,
            name=project.pb2.name,
            description=project.pb2.description,
            domains=[domain.id for domain in project.pb2.domains],
        )
        async for project in remote.Project.listall.aio()
    ]

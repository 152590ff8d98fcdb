"""The caller, and the projects that the caller may see."""

from fastapi import APIRouter, Request
from flyte import remote
from pydantic import BaseModel, Field

from passthrough import Caller, TruncatedText, find_caller, take

router = APIRouter()


@router.get("/me", tags=["me"], summary="Get the caller")
async def me(request: Request) -> Caller:
    """Return the user or application that Flyte finds for the credentials of the request."""
    return await find_caller(request)


class Project(BaseModel):
    """A Flyte project."""

    id: TruncatedText = Field(examples=["flytesnacks"], description="Identifier of the project")
    name: TruncatedText = Field(description="Name of the project to show")
    description: TruncatedText = Field(description="Description of the project")
    domains: list[TruncatedText] = Field(
        examples=[["development", "staging"]], description="Identifiers of the project's domains"
    )


@router.get("/projects", tags=["projects"], summary="List projects")
async def list_projects() -> list[Project]:
    """List the active Flyte projects that the caller may see, oldest first, at most 1,000."""
    projects = await take(remote.Project.listall.aio(), 1000)
    return [
        Project(
            id=project.pb2.id,
            name=project.pb2.name,
            description=project.pb2.description,
            domains=[domain.id for domain in project.pb2.domains],
        )
        for project in projects
    ]

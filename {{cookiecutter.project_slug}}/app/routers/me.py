"""Who the caller is, according to Flyte, and which projects they may see."""

from fastapi import APIRouter, Request
from flyte import remote
from pydantic import BaseModel, Field

from passthrough import Caller, TruncatedText, find_caller, take

router = APIRouter()


@router.get("/me", tags=["me"], summary="Who am I?")
async def me(request: Request) -> Caller:
    """Return the owner of the request's credentials."""
    return await find_caller(request)


class Project(BaseModel):
    """A Flyte project."""

    id: TruncatedText = Field(examples=["flytesnacks"])
    name: TruncatedText
    description: TruncatedText
    domains: list[TruncatedText] = Field(examples=[["development", "staging", "production"]])


@router.get("/projects", tags=["projects"], summary="List projects")
async def list_projects() -> list[Project]:
    """List the active projects that the caller may see, oldest first, and at most 1,000."""
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

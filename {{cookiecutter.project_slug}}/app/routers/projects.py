"""The Flyte projects that the caller may see."""

from typing import Annotated

from fastapi import APIRouter
from flyte import remote
from pydantic import BeforeValidator

from passthrough.dependencies import Shown, at

router = APIRouter(tags=["projects"])


class Project(Shown):
    """A Flyte project."""

    id: str = at("pb2.id", examples=["flytesnacks"])
    name: str = at("pb2.name")
    description: str = at("pb2.description")
    domains: Annotated[
        list[str], BeforeValidator(lambda domains: [domain.id for domain in domains])
    ] = at("pb2.domains", examples=[["development", "staging", "production"]])


@router.get("/projects", summary="List projects")
async def list_projects() -> list[Project]:
    """List the active projects that the caller may see, oldest first."""
    return [Project.of(project) async for project in remote.Project.listall.aio()]

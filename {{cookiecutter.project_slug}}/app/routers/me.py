"""Who the caller is, in Flyte's eyes."""

from fastapi import APIRouter
from flyte import remote
from pydantic import BaseModel, Field

router = APIRouter(tags=["me"])


class Me(BaseModel):
    """A person, as Flyte's identity service describes them."""

    subject: str = Field(description="Flyte's identifier of the person", examples=["00u1alice"])
    name: str
    email: str


@router.get("/me", summary="Who am I?")
async def me() -> Me:
    """Return the person whose credentials came with the request."""
    user = (await remote.User.get.aio()).pb2
    return Me(subject=user.subject, name=user.name, email=user.email)

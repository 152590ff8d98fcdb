"""Who the caller is, according to Flyte."""

from fastapi import APIRouter

from passthrough.dependencies import CallerDep
from passthrough.models import Caller

router = APIRouter(tags=["me"])


@router.get("/me", summary="Who am I?")
async def me(caller: CallerDep) -> Caller:
    """Return the owner of the request's credentials."""
    return caller

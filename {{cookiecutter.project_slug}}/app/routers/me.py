"""Who the caller is, in Flyte's eyes."""

from fastapi import APIRouter

from passthrough.dependencies import Caller, CallerDep

router = APIRouter(tags=["me"])


@router.get("/me", summary="Who am I?")
async def me(caller: CallerDep) -> Caller:
    """Return the person whose credentials came with the request."""
    return caller

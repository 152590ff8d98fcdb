"""Who the caller is, according to Flyte."""

from fastapi import APIRouter

from passthrough import Caller, CallerDep

router = APIRouter(tags=["me"])


@router.get("/me", summary="Who am I?")
async def me(caller: CallerDep) -> Caller:
    """Return the owner of the request's credentials."""
    return caller

"""Whether the app lives, and whether it can work. Open to all: nothing here acts for anyone."""

from typing import Literal

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from fastapi import APIRouter
from flyteidl2.auth.identity_pb2 import UserInfoRequest
from pydantic import BaseModel

from ..dependencies import FlyteDep
from ..problems import documented

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The answer of a probe."""

    status: Literal["ok"] = "ok"


@router.get("/health", summary="Is the app alive?")
async def health() -> Health:
    """Answers as long as the process does."""
    return Health()


@router.get("/ready", summary="Can the app reach Flyte?", responses=documented(503, 504))
async def ready(flyte: FlyteDep) -> Health:
    """Answers once Flyte does. Asked without credentials, being told "who are you?" will do."""
    try:
        await flyte.identity.user_info(UserInfoRequest())
    except ConnectError as error:
        if error.code is not Code.UNAUTHENTICATED:
            raise
    return Health()

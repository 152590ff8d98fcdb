"""Whether the app lives, and whether it can work. Open to all: nothing here acts for anyone."""

from typing import Literal

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from fastapi import APIRouter
from flyte import remote
from pydantic import BaseModel

from .. import flyte_client
from ..dependencies import SettingsDep
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
async def ready(settings: SettingsDep) -> Health:
    """Answers once Flyte does. Asked without credentials, being told "who are you?" will do."""
    async with flyte_client.deadline(settings):
        try:
            await remote.User.get.aio()
        except ConnectError as error:
            if error.code is not Code.UNAUTHENTICATED:
                raise
    return Health()

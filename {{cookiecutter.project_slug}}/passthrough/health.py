"""Liveness and readiness; public: nothing here acts for a caller."""

import asyncio
import time
from contextvars import Context
from http import HTTPStatus
from typing import Literal

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from fastapi import APIRouter, Request
from flyteidl2.auth.identity_pb2 import UserInfoRequest
from pydantic import BaseModel

from ..dependencies import FlyteDep
from ..flyte_client import Flyte
from ..problems import Problem, documented, problem_for

router = APIRouter(tags=["health"])

INTERVAL = 1.0  # seconds for which what Flyte has answered is taken for still true
LONGEST = 2.0  # seconds that Flyte may take; platforms give a probe hardly more


class Health(BaseModel):
    """The answer of a probe."""

    status: Literal["ok"] = "ok"


class Readiness:
    """One check for all probes, at most one a second."""

    def __init__(self) -> None:
        self.asked_at = 0.0
        self.asking: asyncio.Task[Problem | None] | None = None

    async def problem(self, request: Request, flyte: Flyte) -> Problem | None:
        """Return what keeps the app from working, if anything does."""
        due = time.monotonic() - self.asked_at >= INTERVAL
        if self.asking is None or (self.asking.done() and due):
            self.asked_at = time.monotonic()
            self.asking = asyncio.create_task(_ask(request, flyte), context=Context())
        # A cancelled probe must not cancel the shared check.
        return await asyncio.shield(self.asking)


async def _ask(request: Request, flyte: Flyte) -> Problem | None:
    """Call Flyte without credentials; UNAUTHENTICATED counts as reachable."""
    try:
        async with asyncio.timeout(min(LONGEST, flyte.timeout)):
            await flyte.probe.user_info(UserInfoRequest())
    except ConnectError as error:
        if error.code is not Code.UNAUTHENTICATED:
            problem = problem_for(request, error)
            if problem.status in {503, 504}:
                return problem
            # Whatever else Flyte answers to nobody, it is not what a probe has asked for.
            return Problem(title=HTTPStatus.BAD_GATEWAY.phrase, status=HTTPStatus.BAD_GATEWAY)
    except Exception as error:  # noqa: BLE001 - the askers are told, whatever it is
        return problem_for(request, error)
    return None


@router.get("/health", summary="Is the app alive?")
async def health() -> Health:
    """Answers as long as the process does."""
    return Health()


@router.get("/ready", summary="Can the app reach Flyte?", responses=documented(502, 503, 504))
async def ready(request: Request, flyte: FlyteDep) -> Health:
    """Answers once Flyte does. Asked by many, it asks Flyte once a second."""
    readiness: Readiness = request.state.readiness
    if problem := await readiness.problem(request, flyte):
        return problem.response()  # type: ignore[return-value]
    return Health()

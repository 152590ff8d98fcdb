"""Liveness and readiness; public: nothing here acts for a caller."""

import asyncio
import time
from contextvars import Context
from http import HTTPStatus
from typing import Literal

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from fastapi import APIRouter, Request
from flyte import remote
from pydantic import BaseModel

from .problems import Problem, documented, problem_for
from .sdk import Calls, Limits, act_in, current_calls, initialised

router = APIRouter(tags=["health"])
PATHS = {"/health", "/ready"}

INTERVAL = 1.0  # seconds for which an answer of Flyte counts
LONGEST = 2.0  # seconds that Flyte may take; platforms give a probe hardly more


class Health(BaseModel):
    """The answer of a probe."""

    status: Literal["ok"] = "ok"


class Readiness:
    """One check for all probes, at most one a second."""

    def __init__(self, timeout: float) -> None:
        self.limits = Limits(min(LONGEST, timeout), anonymous=True, pauses=())
        self.asked_at = 0.0
        self.asking: asyncio.Task[Problem | None] | None = None

    async def problem(self, request: Request) -> Problem | None:
        """Return what keeps the app from working, if anything does."""
        due = time.monotonic() - self.asked_at >= INTERVAL
        if self.asking is None or (self.asking.done() and due):
            self.asked_at = time.monotonic()
            asking = self._ask(request, initialised())
            self.asking = asyncio.create_task(asking, context=Context())
        # A cancelled probe must not cancel the shared check.
        return await asyncio.shield(self.asking)

    async def _ask(self, request: Request, flyte: object) -> Problem | None:
        """Call Flyte without credentials; UNAUTHENTICATED counts as reachable."""
        current_calls.set(Calls(self.limits))
        act_in(flyte)
        try:
            await remote.User.get.aio()
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
async def ready(request: Request) -> Health:
    """Answers once Flyte does. Asked by many, it asks Flyte once a second.

    Behind a proxy that lets nobody through without credentials, only the proxy is seen: such a
    Flyte may hang, and the answer is still `ok`.
    """
    readiness: Readiness = request.app.readiness
    if problem := await readiness.problem(request):
        return problem.response()  # type: ignore[return-value]
    return Health()

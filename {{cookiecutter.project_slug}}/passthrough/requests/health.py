"""Liveness and readiness probes. They need no credentials: they never act for a caller."""

import asyncio
import time
from contextvars import Context
from typing import Literal

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from fastapi import APIRouter, Request
from flyte import remote
from pydantic import BaseModel

from ..calls.request_calls import Limits, RequestCalls, current_calls
from ..calls.sdk import act_in, initialised
from .problems import Problem, documented, problem_for

# Named like the app's operations: the app adds these routes without including the router.
router = APIRouter(tags=["health"], generate_unique_id_function=lambda route: route.name)
PATHS = {"/health", "/ready"}

INTERVAL = 1.0  # seconds for which Flyte's answer is reused
LONGEST = 2.0  # seconds that Flyte may take; platforms seldom give a probe more


class Health(BaseModel):
    """The answer of a probe."""

    status: Literal["ok"] = "ok"


class Readiness:
    """One check of Flyte shared by all probes, at most once a second."""

    def __init__(self, timeout: float) -> None:
        self.limits = Limits(min(LONGEST, timeout), anonymous=True, pauses=())
        self.asked_at = 0.0
        self.asking: asyncio.Task[Problem | None] | None = None

    async def problem(self, request: Request) -> Problem | None:
        """Return the reason why the app cannot work, or None."""
        due = time.monotonic() - self.asked_at >= INTERVAL
        if self.asking is None or (self.asking.done() and due):
            self.asked_at = time.monotonic()
            asking = self._ask(request, initialised())
            self.asking = asyncio.create_task(asking, context=Context())
        # A cancelled probe must not cancel the shared check.
        return await asyncio.shield(self.asking)

    async def _ask(self, request: Request, flyte: object) -> Problem | None:
        """Call Flyte without credentials; UNAUTHENTICATED counts as reachable."""
        current_calls.set(RequestCalls(self.limits))
        act_in(flyte)
        try:
            await remote.User.get.aio()
        except Exception as error:  # noqa: BLE001 - every failure is reported to the probe
            if isinstance(error, ConnectError) and error.code is Code.UNAUTHENTICATED:
                return None
            problem = problem_for(request, error)
            # Any other answer to a call without credentials means a fault in Flyte.
            known = problem.status in {500, 503, 504}
            return problem if known else Problem(title="Bad Gateway", status=502)
        return None


@router.get("/health", summary="Is the app alive?")
async def health() -> Health:
    """Returns `ok` as long as the process responds."""
    return Health()


@router.get("/ready", summary="Can the app reach Flyte?", responses=documented(502, 503, 504))
async def ready(request: Request) -> Health:
    """Returns `ok` if Flyte responds. Calls Flyte at most once a second.

    If a proxy in front of Flyte refuses calls without credentials, this checks only the proxy: the
    answer is `ok` even if Flyte hangs.
    """
    readiness: Readiness = request.app.readiness
    if problem := await readiness.problem(request):
        return problem.response()  # type: ignore[return-value]
    return Health()

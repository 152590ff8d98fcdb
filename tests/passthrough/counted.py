"""The app in a process of its own, which tells how many of Flyte's messages are in memory.

The collector is off: what is left is in a cycle, or is kept.
"""

import gc
import sys
from collections import Counter

import uvicorn
from fastapi import APIRouter
from google.protobuf.message import Message
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from app.routers import conditions, me, runs, streams, tasks
from passthrough import UVICORN

from . import naive_endpoints
from .support import build_app

NAIVE = APIRouter(prefix="/naive")
NAIVE.include_router(naive_endpoints.router)
ROUTERS = [module.router for module in (me, tasks, runs, conditions, streams)]


def messages() -> Counter[str]:
    """Count the messages that exist, by kind."""
    return Counter(type(it).__name__ for it in gc.get_objects() if isinstance(it, Message))


class Counting:
    """Serves an app, and at ``/messages`` the number of messages by kind."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope.get("path") == "/messages":
            gc.disable()
            await JSONResponse(messages())(scope, receive, send)
        else:
            await self.app(scope, receive, send)


if __name__ == "__main__":
    app = Counting(build_app(NAIVE, *ROUTERS))
    uvicorn.Server(uvicorn.Config(app, fd=int(sys.argv[1]), **UVICORN)).run()

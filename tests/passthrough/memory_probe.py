"""Runs the app in a separate process, which reports requests and messages in memory.

The garbage collector is disabled, so objects remain only if they are referenced or in a cycle.
"""

import gc
import sys
from collections import Counter

import uvicorn
from fastapi import APIRouter
from google.protobuf.message import Message
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from app.routers import conditions, me, runs, streams, tasks
from passthrough import UVICORN
from passthrough.calls.request_state import RequestState

from . import naive_endpoints
from .support import build_app

NAIVE = APIRouter(prefix="/naive")
NAIVE.include_router(naive_endpoints.router)
ROUTERS = [module.router for module in (me, tasks, runs, conditions, streams)]


async def counting(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the app, and at ``/memory`` the bytes of messages by kind, and how many requests."""
    if scope.get("path") == "/memory":
        gc.disable()
        messages, requests = Counter[str](), 0
        for it in gc.get_objects():
            if isinstance(it, Message):
                messages[type(it).__name__] += it.ByteSize()
            requests += isinstance(it, RequestState)
        found = {"messages": messages, "requests": requests}
        await JSONResponse(found)(scope, receive, send)
    else:
        await app(scope, receive, send)


if __name__ == "__main__":
    app = build_app(NAIVE, *ROUTERS)
    uvicorn.Server(uvicorn.Config(counting, fd=int(sys.argv[1]), **UVICORN)).run()

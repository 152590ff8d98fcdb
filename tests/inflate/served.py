"""The app as it is deployed, with an owner's endpoints that have bugs, and a meter.

uvicorn serves this in a generated project's folder, as a process of its own. `GET /meter` tells
what the process has needed since the last time, and is not part of the app.
"""

import asyncio
import ctypes
import gc
import re
import time
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from app import main  # type: ignore[attr-defined,unused-ignore]
from app.settings import Settings
from passthrough.settings import load_settings

BEAT = 0.002  # seconds between two looks at the clock
WORK = 2_000_000  # steps, whose time is the measure of a machine

BUGS: dict[str, type[BaseException]] = {
    "quote": ValueError,
    "leave": SystemExit,
    "interrupt": KeyboardInterrupt,
    "end": GeneratorExit,
}
"""What an owner's endpoints raise, by name."""
router = APIRouter(prefix="/bugs", tags=["bugs"])


def failing(error: type[BaseException]) -> Any:
    """Return an endpoint that raises an error with what it was sent."""

    async def fail(
        body: Annotated[Any, Body()], note: Annotated[str, Header()] = "", page: str = ""
    ) -> None:
        given = body if isinstance(body, list | dict) else f"cannot use {body} {note} {page}"
        raise error(given) from KeyError(body)

    return fail


for name, error in BUGS.items():
    router.post(f"/{name}", operation_id=name, summary=name)(failing(error))


@router.post("/answers/{name}")
async def answer(name: str, body: Annotated[Any, Body()]) -> Any:
    return {"name": name, "body": body}


def status(name: str) -> int:
    """Return one of the sizes that the system knows of this process, in bytes."""
    found = re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return 1024 * int(found[1])


def forget() -> int:
    """Return unused memory to the system, forget the peak, and return what is used, in bytes."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


class Meter:
    """Measures how long the loop was blocked, and how much memory was needed at most.

    Blocked means CPU time of the process between two beats in the loop: other processes of the
    machine do not count, and threads that keep the interpreter to themselves do.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.last = self.longest = 0.0
        self.memory = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") != "/meter":
            await self.app(scope, receive, send)
            return
        if not self.last:
            self.last = time.process_time()
            self.beat()
        self.look()
        told = {"loop": self.longest, "memory": status("VmHWM") - self.memory}
        if b"work" in scope["query_string"]:
            began = time.process_time()
            sum(range(WORK))
            told["work"] = time.process_time() - began
        self.memory = forget()
        await JSONResponse(told)(scope, receive, send)
        self.last, self.longest = time.process_time(), 0.0

    def look(self) -> None:
        now = time.process_time()
        self.longest, self.last = max(self.longest, now - self.last), now

    def beat(self) -> None:
        self.look()
        asyncio.get_running_loop().call_later(BEAT, self.beat)


served = main.create_app(load_settings(Settings))
served.include_router(router)
app = Meter(served)

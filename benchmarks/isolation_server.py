"""One process of ``benchmarks/isolation.py``: a local Flyte that sometimes fails, or an app.

    python isolation_server.py flyte PEOPLE|ours|sdk

Like ``server.py``: run in the generated project's folder, it prints a line of JSON with its
address, and another one for each line that it reads.
"""

import asyncio
import gc
import os
import random
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from server import ROLE, minimal, report, serve, usage

os.dup2(2, 1)  # the apps' logs are checked

HEADERS = {"content-type": "text/plain"}
NOBODY = "/who/nobody"
found: Counter[str] = Counter()
"""Errors found by endpoints that their callers can't see, and calls that Flyte has received."""


class DeliberateError(Exception):
    """Raised by an endpoint on purpose."""


def router() -> Any:
    """Return endpoints as an owner writes them. Each returns its caller according to Flyte."""
    from fastapi import APIRouter, BackgroundTasks, Request, Response
    from fastapi.responses import StreamingResponse
    from fastapi.sse import EventSourceResponse, ServerSentEvent
    from flyte import remote
    from flyte.remote._auth_metadata import get_auth_metadata

    router = APIRouter()

    async def subject() -> str:
        return (await remote.User.get.aio()).subject()

    @router.get("/who")
    async def who() -> Response:
        return Response(await subject(), headers=HEADERS)

    @router.get("/who/sync")
    def sync_who() -> Response:
        return Response(remote.User.get().subject(), headers=HEADERS)

    @router.get("/who/events", response_class=EventSourceResponse)
    async def events() -> AsyncIterator[ServerSentEvent]:
        for _ in range(3):
            yield ServerSentEvent(raw_data=await subject())

    @router.post("/who/background")
    async def background(tasks: BackgroundTasks, expected: str) -> Response:
        async def after() -> None:
            found["background"] += await subject() != expected

        tasks.add_task(after)
        return Response(await subject(), headers=HEADERS)

    @router.post("/who/upload")
    async def upload(request: Request) -> Response:
        size = len(await request.body())
        return Response(f"{size} {await subject()}", headers=HEADERS)

    @router.get("/who/raise")
    async def fail() -> None:
        raise DeliberateError(await subject())

    @router.get(NOBODY)
    async def nobody() -> Response:
        try:
            return Response(await subject(), headers=HEADERS)
        except Exception:  # noqa: BLE001 - refused by Flyte, or by the app before the call
            return Response("nobody", headers=HEADERS)

    @router.get("/who/large")
    async def large(expected: str) -> StreamingResponse:
        def chunks() -> Iterator[bytes]:
            try:
                for _ in range(256):
                    yield bytes(64 * 1024)
            finally:
                mine = dict(get_auth_metadata() or {})
                found["clean-up"] += bool(mine) and expected not in str(mine)

        async def stream() -> AsyncIterator[bytes]:
            for chunk in chunks():
                yield chunk

        return StreamingResponse(stream())

    @router.get("/who/watch/{name}")
    async def watch(name: str) -> StreamingResponse:
        run = await remote.Run.get.aio(name)

        async def phases() -> AsyncIterator[str]:
            async for state in run.watch():
                yield f"{state.phase}\n"

        return StreamingResponse(phases())

    return router


def flyte(people: int) -> None:
    """Start a local Flyte with the sample tasks and many people, which sometimes fails."""
    from local_flyte import Code, LocalFlyte

    with LocalFlyte() as local_flyte:
        local_flyte.deploy(Path.cwd())
        known = [local_flyte.add_person(f"p{number:04}") for number in range(people)]
        report(
            environment=local_flyte.app_environment(),
            people={each.subject: [each.token, each.cookie] for each in known},
        )
        stopped = threading.Event()

        def fail_now_and_then() -> None:
            chance = random.Random(0)  # noqa: S311
            while not stopped.wait(0.5):
                method = chance.choice(["UserInfo", "UserInfo", "WatchActionDetails"])
                if fault := chance.choice([Code.INTERNAL, Code.UNAVAILABLE, None]):
                    local_flyte.fail_next(method, fault)
                else:
                    with local_flyte.hang(method):
                        stopped.wait(0.3)
                found["received"] += len(local_flyte.calls)
                local_flyte.clear_calls()  # otherwise all are stored

        failing = threading.Thread(target=fail_now_and_then)
        failing.start()
        for _ in sys.stdin:
            methods = ("UserInfo", "GetRunDetails", "WatchActionDetails")
            received = found["received"] + len(local_flyte.calls)
            report(calls=sum(map(local_flyte.open_calls, methods)), received=received)
        stopped.set()
        failing.join()


def app(*, ours: bool) -> tuple[Any, dict[str, Any]]:
    """Return our app, or the minimal one with the SDK's middleware, each with our router.

    Both have one public path, where no credentials may be found. This also returns options for
    uvicorn: with asyncio's loop, an upload can leave its caller's credentials on the connection.
    """
    options = {"loop": "asyncio"}
    if ours:
        from app import main
        from app.settings import Settings
        from passthrough import UVICORN, load_settings

        options |= UVICORN
        application = main.create_app(load_settings(Settings))
        application.public.add(NOBODY)
    else:
        from flyte.app.extras import FastAPIPassthroughAuthMiddleware

        application = minimal(sdk_middleware=False)
        application.add_middleware(FastAPIPassthroughAuthMiddleware, excluded_paths={NOBODY})
    application.include_router(router())
    return application, options


def remaining(server: Any) -> dict[str, Any]:
    """Return the work that remains in the process after all clients have left."""
    gc.collect()
    with suppress(RuntimeError):  # the set changes during iteration
        found["tasks"] = len(asyncio.all_tasks(server.servers[0].get_loop()))
    return {**usage(), **found, "sockets": len(server.server_state.connections)}


if __name__ == "__main__":
    if ROLE == "flyte":
        flyte(int(sys.argv[2]))
    else:
        application, options = app(ours=ROLE == "ours")
        serve(application, remaining, **options)

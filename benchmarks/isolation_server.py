"""Server process of ``benchmarks/isolation.py``: an unreliable local Flyte server, or an app.

    python isolation_server.py flyte USERS|ours|sdk

Like ``server.py``, it runs in the folder of the generated project. It prints one line of JSON with
the URL, and one more for each line of standard input.
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

os.dup2(2, 1)  # the log of the app is checked

HEADERS = {"content-type": "text/plain"}
ANONYMOUS = "/who/anonymous"
counts: Counter[str] = Counter()
"""Errors that clients cannot see, and the number of calls that Flyte has received."""


class DeliberateError(Exception):
    """Raised by an endpoint on purpose."""


def router() -> Any:
    """Return typical endpoints of a developer. Each returns the caller according to Flyte."""
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
            counts["background"] += await subject() != expected

        tasks.add_task(after)
        return Response(await subject(), headers=HEADERS)

    @router.post("/who/upload")
    async def upload(request: Request) -> Response:
        size = len(await request.body())
        return Response(f"{size} {await subject()}", headers=HEADERS)

    @router.get("/who/raise")
    async def fail() -> None:
        raise DeliberateError(await subject())

    @router.get(ANONYMOUS)
    async def anonymous() -> Response:
        try:
            return Response(await subject(), headers=HEADERS)
        except Exception:  # noqa: BLE001 - refused by Flyte or by the app
            return Response("anonymous", headers=HEADERS)

    @router.get("/who/large")
    async def large(expected: str) -> StreamingResponse:
        def chunks() -> Iterator[bytes]:
            try:
                for _ in range(256):
                    yield bytes(64 * 1024)
            finally:
                mine = dict(get_auth_metadata() or {})
                counts["clean-up"] += bool(mine) and expected not in str(mine)

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


def flyte(user_count: int) -> None:
    """Start a local Flyte server with the sample tasks and many users; it sometimes fails."""
    from local_flyte import Code, LocalFlyte

    with LocalFlyte() as local_flyte:
        local_flyte.deploy(Path.cwd())
        users = [local_flyte.add_person(f"p{number:04}") for number in range(user_count)]
        report(
            environment=local_flyte.app_environment(),
            users={user.subject: [user.token, user.cookie] for user in users},
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
                counts["received"] += len(local_flyte.calls)
                local_flyte.clear_calls()  # keeps memory small

        failing = threading.Thread(target=fail_now_and_then)
        failing.start()
        for _ in sys.stdin:
            methods = ("UserInfo", "GetRunDetails", "WatchActionDetails")
            received = counts["received"] + len(local_flyte.calls)
            report(calls=sum(map(local_flyte.open_calls, methods)), received=received)
        stopped.set()
        failing.join()


def app(*, ours: bool) -> tuple[Any, dict[str, Any]]:
    """Return our app, or the minimal app with the SDK's middleware, and options for uvicorn.

    Both apps have our router, with one public path, where no credentials may exist. The options
    select the event loop of asyncio, where an upload can leave credentials on the connection.
    """
    options = {"loop": "asyncio"}
    if ours:
        from app import main
        from app.settings import Settings
        from passthrough import UVICORN, load_settings

        options |= UVICORN
        application = main.create_app(load_settings(Settings))
        application.public.add(ANONYMOUS)
    else:
        from flyte.app.extras import FastAPIPassthroughAuthMiddleware

        application = minimal(sdk_middleware=False)
        application.add_middleware(FastAPIPassthroughAuthMiddleware, excluded_paths={ANONYMOUS})
    application.include_router(router())
    return application, options


def remaining(server: Any) -> dict[str, Any]:
    """Return the work that is left in the process after all clients have disconnected."""
    gc.collect()
    with suppress(RuntimeError):  # the set changes during iteration
        counts["tasks"] = len(asyncio.all_tasks(server.servers[0].get_loop()))
    return {**usage(), **counts, "sockets": len(server.server_state.connections)}


if __name__ == "__main__":
    if ROLE == "flyte":
        flyte(int(sys.argv[2]))
    else:
        application, options = app(ours=ROLE == "ours")
        serve(application, remaining, **options)

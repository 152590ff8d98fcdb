"""Server process that a benchmark measures: the local Flyte server, or an app.

    python server.py flyte|minimal|sdk|ours [count TOKEN]

It runs in the folder of the generated project, and prints one line of JSON with the URL. For each
line of standard input, it prints one more: CPU time in seconds and memory in bytes, or the calls
that the local Flyte server has received. With ``count``, it prints the number of functions that an
app calls for one ``GET /me``.
"""

import asyncio
import json
import os
import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

ROLE = sys.argv[1]


def usage(_: Any = None) -> dict[str, float]:
    """Return the CPU time so far in seconds, and the current memory in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {"cpu": time.process_time(), "memory": pages * resource.getpagesize()}


REPORTS = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # hides the logs of apps


def report(**values: Any) -> None:
    """Print a line for the parent process."""
    print(json.dumps(values), file=REPORTS)


def flyte() -> None:
    """Start a local Flyte server with the sample tasks; its reports count received calls."""
    from local_flyte import PEOPLE, LocalFlyte

    with LocalFlyte() as local_flyte:
        local_flyte.deploy(Path.cwd())
        local_flyte.deploy(Path(__file__).parent, "thirteen.py", "env")
        report(environment=local_flyte.app_environment(), token=PEOPLE["alice"].token)
        received = Counter[str]()
        for _ in sys.stdin:
            received.update(call.method for call in local_flyte.calls)
            local_flyte.clear_calls()
            report(calls=received)


def minimal(*, sdk_middleware: bool) -> Any:
    """Return an app that makes the same SDK calls as ours, without anything more."""
    import contextlib

    import flyte
    from fastapi import FastAPI, Request
    from fastapi.sse import EventSourceResponse, ServerSentEvent
    from flyte import remote
    from flyte.app.extras import FastAPIPassthroughAuthMiddleware

    project = os.environ["FLYTE_INTERNAL_EXECUTION_PROJECT"]
    domain = os.environ["FLYTE_INTERNAL_EXECUTION_DOMAIN"]

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await flyte.init_passthrough.aio(project=project, domain=domain)
        yield

    def as_caller(request: Request) -> Any:
        if sdk_middleware:
            return contextlib.nullcontext()
        return remote.auth_metadata(("authorization", request.headers["authorization"]))

    app = FastAPI(lifespan=lifespan)
    if sdk_middleware:
        app.add_middleware(FastAPIPassthroughAuthMiddleware)

    @app.get("/me")
    async def me(request: Request) -> dict[str, str]:
        with as_caller(request):
            user = await remote.User.get.aio()
        return {"subject": user.subject()}

    @app.get("/runs")
    async def list_runs(request: Request) -> list[dict[str, str]]:
        with as_caller(request):
            newest = remote.Run.listall.aio(sort_by=("created_at", "desc"), limit=20)
            runs = [run async for run in newest]
        return [{"name": run.name, "phase": run.phase} for run in runs]

    @app.get("/runs/{name}/events", response_class=EventSourceResponse)
    async def events(request: Request, name: str) -> AsyncIterator[ServerSentEvent]:
        with as_caller(request):
            run = await remote.Run.get.aio(name)
            async for state in run.watch():
                yield ServerSentEvent(event="phase", data={"phase": state.phase})

    return app


def serve(app: Any, measure: Callable[[Any], dict[str, Any]], **options: Any) -> None:
    """Serve an app with uvicorn and an access log, and print reports."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, port=0, **options))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.02)
    report(url=f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}")
    for _ in sys.stdin:
        report(**measure(server))
    server.should_exit = True
    thread.join()


async def count(app: Any, token: str) -> int:
    """Return the number of Python and C functions that an app calls for one request."""
    scope: dict[str, Any] = {"type": "http", "http_version": "1.1", "method": "GET", "path": "/me"}
    scope |= {"scheme": "http", "root_path": "", "query_string": b"", "asgi": {"version": "3.0"}}
    scope |= {"server": ("app", 80), "client": ("127.0.0.1", 1), "state": {}}
    scope["headers"] = [(b"host", b"app"), (b"authorization", f"Bearer {token}".encode())]
    started, calls, statuses = asyncio.Event(), Counter[str](), list[int]()
    signals = [{"type": "lifespan.startup"}]

    async def lifespan() -> dict[str, Any]:
        return signals.pop() if signals else await asyncio.Future()

    bodies = list[dict[str, Any]]()

    async def receive() -> dict[str, Any]:
        return bodies.pop() if bodies else await asyncio.Future()

    async def send(message: dict[str, Any]) -> None:
        started.set()
        statuses.extend([message["status"]] if "status" in message else [])

    starting = asyncio.create_task(app({"type": "lifespan", "state": {}}, lifespan, send))
    await started.wait()
    numbers = list[int]()
    for _ in range(30):
        calls.clear()
        bodies[:] = [{"type": "http.request"}]
        sys.setprofile(lambda _, event, __: calls.update([event]))
        await asyncio.create_task(app(dict(scope), receive, send))
        sys.setprofile(None)
        numbers.append(calls["call"] + calls["c_call"])
    starting.cancel()
    assert set(statuses) == {200}, statuses
    return min(numbers)  # the first requests import modules and fill caches


if __name__ == "__main__":
    if ROLE == "flyte":
        flyte()
    elif sys.argv[2:]:
        import uvloop

        if ROLE == "ours":
            from app.main import app as counted
        else:
            counted = minimal(sdk_middleware=ROLE == "sdk")
        report(calls=uvloop.run(count(counted, sys.argv[3])))
        sys.stdin.read()
    elif ROLE == "ours":
        from app.main import app as ours
        from passthrough import UVICORN

        serve(ours, usage, **UVICORN)
    else:
        serve(minimal(sdk_middleware=ROLE == "sdk"), usage)

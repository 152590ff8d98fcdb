"""Apps with a few endpoints each, on real sockets, and clients for them."""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import flyte
import httpx
import uvicorn
from fastapi import APIRouter, FastAPI
from flyte import remote
from starlette.middleware import Middleware
from starlette.types import ASGIApp

from local_flyte import PEOPLE
from passthrough.application import App
from passthrough.passthrough_auth import FastAPIPassthroughAuthMiddleware
from passthrough.requests import public
from passthrough.requests.credentials import credential_extractors
from passthrough.requests.lifetime import FlyteMiddleware
from passthrough.requests.problems import problem_response
from passthrough.requests.serving import UVICORN
from passthrough.settings import Settings, connect, load_settings

FOLDER = Path(__file__).parent
TASKS = "tests"
"""The prefix of the tests' tasks: ``tests.greet``, ``tests.count``, ..."""


PUBLIC = public.PATHS


def build_app(*routers: APIRouter, **changed: Any) -> App:
    """Build an app like a generated one, with some settings changed."""
    patient = {"flyte_timeout": 120.0}  # enough even on a busy machine
    settings = load_settings(Settings).model_copy(update=patient | changed)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await connect(settings)
        yield

    app = App(
        settings,
        PUBLIC,
        lifespan=lifespan,
        middleware=[
            Middleware(
                FastAPIPassthroughAuthMiddleware,
                header_extractors=credential_extractors(settings),
                excluded_paths=PUBLIC,
                cookie_names=settings.cookie_names,
                trusted_origins=settings.trusted_origins,
                assume_ambient=True,
                refusal_handler=problem_response,
            ),
            Middleware(
                FlyteMiddleware,
                timeout=settings.flyte_timeout,
                data_addresses=settings.flyte_data_addresses,
            ),
        ],
    )
    for router in routers:
        app.include_router(router)
    return app


@contextmanager
def serving(app: ASGIApp, **options: Any) -> Iterator[str]:
    """Serve an app from a thread on a port that the operating system chooses; yield its URL."""
    config = uvicorn.Config(app, port=0, log_config=None, **(UVICORN | options))
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive())
        assert server.started, "the app did not start"
        scheme = "https" if config.is_ssl else "http"
        yield f"{scheme}://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive(), "the app does not stop: a request is still being served"


def wait_until(condition: Callable[[], object], seconds: float = 300) -> None:
    """Wait for a condition, and fail if it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} seconds"
        time.sleep(0.02)


def bearer(name: str) -> str:
    """Return the Authorization header of one of the local Flyte's people."""
    return f"Bearer {PEOPLE[name].token}"


def client_of(url: str, name: str | None) -> httpx.Client:
    """Make a client that calls as a person, with a bearer token, or anonymously."""
    headers = {"Authorization": bearer(name)} if name else {}
    return httpx.Client(base_url=url, headers=headers, timeout=120, trust_env=False)


# Runs, started with the SDK outside any app


@contextmanager
def acting_as(name: str) -> Iterator[None]:
    """Let the SDK call Flyte as a person inside the block."""
    asyncio.run(connect(load_settings(Settings)))
    with remote.auth_metadata(("authorization", bearer(name))):
        yield


def start(task: str, person: str = "alice", /, **inputs: Any) -> str:
    """Start a run as a person; return its name."""
    with acting_as(person):
        found = remote.Task.get(f"{TASKS}.{task}", auto_version="latest")
        run = flyte.with_runcontext("remote").run(found, **inputs)
        return str(run.name)


def ended(run: str) -> str:
    """Wait until a run has ended; return its name."""
    with acting_as("alice"):
        wait_until(lambda: remote.RunDetails.get(name=run).done())
    return run


@contextmanager
def long_run() -> Iterator[str]:
    """Start a run that goes on until the block ends; yield its name."""
    run = start("count", to=100_000)
    yield run
    with acting_as("alice"):
        remote.Run.get(run).abort()


def environment(variables: dict[str, str]) -> dict[str, str]:
    """Return an environment for another process: this one's, with some variables changed."""
    return {**os.environ, **variables}

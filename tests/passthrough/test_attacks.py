"""Attacks that once worked; each test failed before the fix."""

import asyncio
import inspect
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import flyte
import flyte.io
import httpx
import pytest
from fastapi import APIRouter
from flyte import remote

from app.routers import tasks
from local_flyte import LocalFlyte, ReceivedCall
from local_flyte.testing import acting_as
from passthrough.calls.request_state import Deadline, RequestState, this_request
from passthrough.calls.sdk import NotForManyCallersError

Received = Callable[[], list[ReceivedCall]]
router = APIRouter()
router.include_router(tasks.router)
RUNS = "/tasks/tests.greet/runs"


def test_the_name_of_an_sdk_argument_is_refused_as_an_input(alice: httpx.Client) -> None:
    for name in ("obj", "run_name"):
        answer = alice.post(RUNS, json={"inputs": {"name": "Ada", name: 1}})
        assert answer.status_code == 422, answer.text
        assert f"{name} is the name of an argument" in answer.text


def test_a_started_run_is_reported_even_if_it_cannot_be_watched(
    short_timeout: httpx.Client, local_flyte: LocalFlyte
) -> None:
    with local_flyte.hang("WatchActions"):
        answer = short_timeout.post(f"{RUNS}?wait=600", json={"inputs": {"name": "Ada"}})
    assert answer.status_code == 201, answer.text
    with acting_as("alice"):
        assert remote.Run.get(name=answer.json()["name"]).name


@router.post("/deadlines")
def deadlines() -> list[float]:
    def deadline() -> float:
        return time.monotonic() + this_request().deadline.seconds_left()

    before = deadline()
    flyte.run(remote.Task.get("tests.greet", auto_version="latest"), name="Ada")
    return [before, deadline()]


def test_an_endpoint_that_starts_a_run_gets_more_time_even_in_a_thread(alice: httpx.Client) -> None:
    before, after = alice.post("/deadlines").json()
    assert after > before


@router.get("/late")
async def late() -> None:
    while this_request().deadline.seconds_left() > 0:
        pass  # the loop is busy, so it cannot cancel the request
    await remote.User.get.aio()


def test_a_deadline_that_passes_while_the_loop_is_busy_is_a_timeout(
    short_timeout: httpx.Client,
) -> None:
    assert short_timeout.get("/late").status_code == 504


def test_no_run_is_started_after_the_deadline() -> None:
    """A thread goes on after it, until the request's calls are ended."""

    async def start() -> None:
        with anyio.CancelScope() as scope:
            deadline = Deadline(0, scope)
            await anyio.sleep(60)
        with pytest.raises(asyncio.CancelledError), RequestState(deadline).include():
            pass

    asyncio.run(start())


async def use(stored: Any, method: str) -> None:
    found = getattr(stored, method)()
    if hasattr(found, "__aenter__"):
        await found.__aenter__()
    elif hasattr(found, "__aiter__"):
        await anext(found)
    elif hasattr(found, "__enter__"):
        found.__enter__()
    elif inspect.isgenerator(found):
        next(found)
    elif inspect.isawaitable(found):
        await found


METHODS = [
    (kind, name)
    for kind in (flyte.io.File, flyte.io.Dir, flyte.io.DataFrame)
    for name in vars(kind)
    if re.match("download|exists|list|open|walk", name)
]


@pytest.mark.usefixtures("_safe_sdk")
@pytest.mark.parametrize(("kind", "method"), METHODS)
def test_no_path_that_a_stored_value_names_is_opened(
    kind: Any, method: str, tmp_path: Path
) -> None:
    (tmp_path / "private").touch()
    path = tmp_path / "private" if kind is flyte.io.File else tmp_path
    with pytest.raises(NotForManyCallersError):
        asyncio.run(use(kind.from_existing_remote(str(path)), method))

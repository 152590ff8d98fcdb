"""Runs that are waited for."""

import re

import flyte
import flyte.io
import httpx
from fastapi import APIRouter
from flyte import remote

from app.routers import runs, tasks
from local_flyte import LocalFlyte
from local_flyte.testing import (
    acting_as,
)

router = APIRouter()
router.include_router(runs.router)
router.include_router(tasks.router)


@router.post("/tasks/{name}")
async def run_to_its_end(name: str) -> str:
    run = await flyte.run.aio(remote.Task.get(name, auto_version="latest"), to=100_000)
    await run.wait.aio()
    return str(run.name)


def test_a_task_that_takes_too_long_is_answered_with_its_run(
    short_timeout: httpx.Client,
) -> None:
    answer = short_timeout.post("/tasks/tests.count?project=flytesnacks")
    assert answer.status_code == 504
    found = re.fullmatch("this took too long; the run (.+) goes on", answer.json()["detail"])
    assert found
    assert short_timeout.post(f"/runs/{found[1]}/abort").is_success


RUNS = "/tasks/tests.greet/runs"


def test_a_started_run_is_reported_even_if_it_cannot_be_watched(
    short_timeout: httpx.Client, local_flyte: LocalFlyte
) -> None:
    with local_flyte.hang("WatchActions"):
        answer = short_timeout.post(f"{RUNS}?wait=600", json={"inputs": {"name": "Ada"}})
    assert answer.status_code == 201, answer.text
    with acting_as("alice"):
        assert remote.Run.get(name=answer.json()["name"]).name

"""No call to Flyte is repeated, and each has a deadline."""

from collections.abc import Callable
from contextlib import nullcontext
from itertools import islice

import httpx
import pytest
from connectrpc.code import Code
from fastapi import APIRouter

from app.routers import streams
from local_flyte import LocalFlyte, ReceivedCall
from local_flyte.testing import wait_until

from . import naive_endpoints

router = APIRouter()
router.include_router(streams.router)
router.include_router(naive_endpoints.router)


@pytest.mark.parametrize(
    ("path", "method", "code", "status"),
    [
        ("POST /count", "CreateRun", Code.UNAVAILABLE, 503),
        ("GET /whoami", "UserInfo", Code.UNAUTHENTICATED, 401),
    ],
)
def test_a_call_that_fails_is_not_repeated(
    *,
    alice: httpx.Client,
    local_flyte: LocalFlyte,
    received: Callable[[], list[ReceivedCall]],
    path: str,
    method: str,
    code: Code,
    status: int,
) -> None:
    local_flyte.fail_next(method, code, message="unauthorized")
    assert alice.request(*path.split()).status_code == status
    assert [call.method for call in received()].count(method) == 1


@pytest.mark.parametrize(
    ("path", "call", "hangs"),
    [
        ("/runs/{run}/events", "WatchActions", True),
        ("/runs/{run}/log", "TailLogs", False),  # the task prints and goes on: half a log is no log
    ],
)
def test_a_stream_has_a_deadline(
    *,
    short_timeout: httpx.Client,
    local_flyte: LocalFlyte,
    counting: str,
    path: str,
    call: str,
    hangs: bool,
) -> None:
    with local_flyte.hang(call) if hangs else nullcontext():
        with short_timeout.stream("GET", path.format(run=counting)) as answer:
            told = "".join(islice(answer.iter_lines(), 9))
        assert '"status":504' in told.replace(" ", "")
        wait_until(lambda: local_flyte.open_calls(call) == 0)

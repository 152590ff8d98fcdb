"""Retries and deadlines of calls to Flyte."""

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
from passthrough.calls.interceptor import PAUSES

from . import naive_endpoints

router = APIRouter()
router.include_router(streams.router)
router.include_router(naive_endpoints.router)


@pytest.mark.parametrize(
    ("path", "method", "code", "times"),
    [
        ("GET /runs", "ListRuns", Code.UNAVAILABLE, len(PAUSES) + 1),
        ("POST /runs/{run}/abort", "AbortRun", Code.UNAVAILABLE, 1),
        ("POST /count", "CreateRun", Code.UNAVAILABLE, 1),
        ("GET /whoami", "UserInfo", Code.UNAUTHENTICATED, 1),
    ],
)
def test_only_a_call_that_reads_is_retried_and_only_if_flyte_is_unavailable(
    *,
    alice: httpx.Client,
    local_flyte: LocalFlyte,
    greeting: str,
    received: Callable[[], list[ReceivedCall]],
    path: str,
    method: str,
    code: Code,
    times: int,
) -> None:
    local_flyte.fail_next(method, code, times=100, message="unauthorized")
    answer = alice.request(*path.format(run=greeting).split())
    local_flyte.fail_next(method, code, times=0)
    assert answer.status_code == {Code.UNAVAILABLE: 503, Code.UNAUTHENTICATED: 401}[code]
    assert [call.method for call in received()].count(method) == times


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

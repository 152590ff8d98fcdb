"""Tests of limits per caller (requests, threads, bodies), and of the caller's hash in the log."""

import asyncio
import json
import re
import threading
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from fastapi.sse import EventSourceResponse, ServerSentEvent
from fastapi.testclient import TestClient
from flyte import remote

from local_flyte import LocalFlyte
from local_flyte.testing import client_of, serving, wait_until
from passthrough.agents import serve_agents
from passthrough.dependencies import CallerDep, RequestBody, RunDep
from passthrough.extras.watching import wait_for

from ..agents.calling import calling
from ..support import AccessLog, build_app, connected, head

router = APIRouter()
MOST = 5
SETTINGS: dict[str, Any] = {"max_concurrent_requests_per_caller": MOST}
go_on = threading.Event()
entered = threading.Semaphore(0)


@router.get("/events", response_class=EventSourceResponse)
async def events() -> AsyncGenerator[ServerSentEvent]:
    yield ServerSentEvent(data=1)
    await remote.User.get.aio()  # which the test makes hang


@router.get("/thread")
def thread() -> str:
    return "served"


@router.get("/thread-of-asyncio")
async def thread_of_asyncio() -> str:
    return await asyncio.to_thread(thread)


@router.get("/held-thread")
def held_thread() -> None:
    entered.release()
    go_on.wait()


@router.get("/held-thread-of-asyncio")
async def held_thread_of_asyncio() -> None:
    await asyncio.to_thread(held_thread)


class Given(RequestBody):
    values: list[Any]


@router.post("/length")
async def length(body: Given) -> int:
    return len(body.values)


@router.post("/held-body")
async def held_body(body: Given) -> int:
    await held_thread_of_asyncio()
    return len(body.values)


@pytest.fixture(autouse=True)
def _nothing_waits() -> Iterator[None]:
    go_on.clear()
    yield
    go_on.set()
    while entered.acquire(blocking=False):
        pass


def test_concurrent_requests_of_a_caller_are_limited(
    local_flyte: LocalFlyte, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        serving(build_app(router, **SETTINGS)) as url,
        local_flyte.hang("UserInfo"),
        client_of(url, "alice") as alice,
        client_of(url, "bob") as bob,
        ExitStack() as streams,
    ):
        for _ in range(MOST):
            assert streams.enter_context(alice.stream("GET", "/events")).status_code == 200
        refused = alice.get("/thread?secret")
        assert refused.status_code == 429
        assert refused.json()["code"] == "too_many_requests"
        (line,) = (record.getMessage() for record in caplog.records if "429" in record.getMessage())
        assert re.fullmatch(
            "429 for GET /thread of caller [0-9a-f]{12}, who has 5 open requests: 5 of GET /events",
            line,
        )
        assert int(refused.headers["Retry-After"]) > 0
        assert alice.get("/health").is_success  # which needs no credentials
        assert bob.get("/thread").json() == "served"
        streams.close()
        wait_until(lambda: alice.get("/thread").status_code == 200)


@router.get("/whoami")
async def whoami(caller: CallerDep) -> str | None:
    return caller.subject


def subjects(access_log: AccessLog) -> list[object]:
    """Return the logged subjects, without event streams of earlier tests, which may end late."""
    return [line["subject"] for line in access_log() if line["route"] != "/events"]


def test_subject_is_logged_only_after_fetch(
    alice: httpx.Client, bob: httpx.Client, access_log: AccessLog
) -> None:
    assert alice.get("/whoami").json() == "alice-subject"
    assert bob.get("/whoami").json() == "bob-subject"
    alice.get("/thread")
    wait_until(lambda: len(subjects(access_log)) == 3)
    assert subjects(access_log) == ["alice-subject", "bob-subject", "-"]


@pytest.mark.parametrize("path", ["/held-thread", "/held-thread-of-asyncio"])
def test_caller_cannot_hold_all_threads(local_flyte: LocalFlyte, path: str) -> None:
    most = 60  # more than the 40 threads that there are by default
    app = build_app(router, max_concurrent_requests_per_caller=most)
    with (
        serving(app) as url,
        client_of(url, "alice") as alice,
        client_of(url, "bob") as bob,
        ThreadPoolExecutor(most) as do,
        ExitStack() as at_the_end,
    ):
        at_the_end.callback(go_on.set)  # also if this test fails
        waiting = [do.submit(alice.get, path) for _ in range(most)]
        for _ in range(most):
            assert entered.acquire(timeout=60)
        assert bob.get("/thread").json() == "served"
        assert bob.get("/thread-of-asyncio").json() == "served"
        go_on.set()
        assert {answer.result().status_code for answer in waiting} == {200}


def test_caller_hash_differs_after_restart(local_flyte: LocalFlyte, access_log: AccessLog) -> None:
    def logged(app: Any, token: str) -> str:
        with TestClient(app) as client:
            client.get("/thread", headers={"Authorization": f"Bearer {token}"})
        (*_, line) = [line for line in access_log() if line["route"] == "/thread"]
        return str(line["caller_hash"])

    app, restarted = build_app(router), build_app(router)
    alice, bob = logged(app, "alices-token"), logged(app, "bobs-token")
    assert len(alice) == len(bob) == 12
    assert alice == logged(app, "alices-token")
    assert len({alice, bob, logged(restarted, "alices-token")}) == 3


LARGE = {"values": ["x" * 200_000]}


def test_large_json_bodies_are_parsed_one_by_one(alice: httpx.Client, bob: httpx.Client) -> None:
    with ThreadPoolExecutor(2) as threads, ExitStack() as at_the_end:
        at_the_end.callback(go_on.set)
        large = [threads.submit(client.post, "/held-body", json=LARGE) for client in (alice, bob)]
        assert entered.acquire(timeout=60)
        text: Any = {"content": b"x" * 200_000, "headers": {"Content-Type": "text/plain"}}
        assert alice.post("/length", **text).status_code == 422
        for _ in range(20):  # small ones do not wait
            assert alice.post("/length", json={"values": []}).json() == 0
        assert not entered.acquire(blocking=False)
        go_on.set()
        assert [response.result().json() for response in large] == [1, 1]


@router.post("/runs/{name}/wait")
async def wait(run: RunDep, _: Given) -> None:
    await wait_for(run, 60)


@pytest.mark.parametrize("is_agent", [False, True], ids=["endpoint", "tool"])
def test_request_with_large_body_does_not_wait(
    *, local_flyte: LocalFlyte, counting: str, is_agent: bool
) -> None:
    app = build_app(router)
    serve_agents(app)
    with serving(app) as url, client_of(url, "alice") as alice:
        alice.timeout = httpx.Timeout(30)
        if is_agent:
            assert calling(alice)("wait", name=counting, body=LARGE) == (["null"], False)
        else:
            assert alice.post(f"/runs/{counting}/wait", json=LARGE).is_success


def test_client_that_disconnects_in_queue_starts_no_work(
    url: str, alice: httpx.Client, access_log: AccessLog
) -> None:
    body = json.dumps(LARGE).encode()
    headers = ("Content-Type: application/json", f"Content-Length: {len(body)}")
    with ThreadPoolExecutor(1) as threads, ExitStack() as at_the_end:
        at_the_end.callback(go_on.set)
        held = threads.submit(alice.post, "/held-body", json=LARGE)
        assert entered.acquire(timeout=60)
        connected(url, head("/held-body", *headers, method="POST") + body).close()
        wait_until(lambda: "/held-body" in {line["route"] for line in access_log()})
        go_on.set()
        assert held.result().json() == 1
    assert not entered.acquire(blocking=False)


def as_chunks(request: httpx.Request) -> None:
    del request.headers["Content-Length"]
    request.headers["Transfer-Encoding"] = "chunked"


@pytest.mark.parametrize("hooks", [[], [as_chunks]], ids=["with a length", "in chunks"])
def test_large_tool_call_needs_one_memory_slot(local_flyte: LocalFlyte, hooks: list[Any]) -> None:
    app = build_app(router, flyte_timeout=10.0)
    serve_agents(app)
    with serving(app) as url, client_of(url, "alice") as alice, ThreadPoolExecutor(4) as threads:
        alice.event_hooks = {"request": hooks}
        calls = [threads.submit(calling(alice), "length", body=LARGE) for _ in range(4)]
        assert [call.result() for call in calls] == [(["1"], False)] * 4

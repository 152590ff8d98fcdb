"""An endpoint's calls to Flyte end with its request, however the endpoint is written."""

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext, suppress
from typing import Any

import flyte
import httpx
import pytest
from fastapi import BackgroundTasks, HTTPException, Request
from flyte import remote
from starlette.responses import StreamingResponse

from app.routers import streams
from local_flyte import LocalFlyte
from local_flyte.testing import client_of, serving, wait_until
from passthrough.calls import request_state
from passthrough.http import cancellation

from .. import naive_endpoints
from ..support import Called, build_app, connected, head, router_of

router = router_of(naive_endpoints, streams)
SETTINGS: dict[str, Any] = {"flyte_timeout": 3600.0}
"""The app waits for Flyte longer than the tests, so no deadline ends a call."""
VIEWERS = 20
kept: list[Any] = []
"""Objects that an endpoint keeps."""
heard: list[str] = []
"""Results of work after the response."""
client_has_left = threading.Event()


@router.get("/runs/{name}/wait-sync")
def sync_wait(name: str) -> str:
    run = remote.Run.get(name)
    run.wait(quiet=True)
    return run.phase


@router.get("/runs/{name}/logs-sync")
def sync_logs(name: str) -> StreamingResponse:
    return StreamingResponse(remote.Run.get(name).get_logs())


def used() -> float:
    """Return the share of a core that this process uses for a moment."""
    before, began = time.process_time(), time.monotonic()
    time.sleep(0.05)
    return (time.process_time() - before) / (time.monotonic() - began)


def all_is_quiet(local_flyte: LocalFlyte, call: str) -> None:
    """Check that the calls end, that no others follow, and that the process is idle."""
    wait_until(lambda: local_flyte.open_calls(call) == 0)
    local_flyte.clear_calls()
    wait_until(lambda: used() < 0.5)  # this process: the app, and an idle local Flyte
    assert local_flyte.calls == []
    assert local_flyte.open_calls(call) == 0


@pytest.mark.parametrize(
    ("path", "call", "hangs"),
    [
        ("/runs/{run}/events", "WatchActions", False),
        ("/runs/{run}/wait-sync", "WatchActionDetails", False),
        ("/runs/{run}/logs", "TailLogs", False),
        ("/runs/{run}/logs-sync", "TailLogs", False),
        ("/runs/{run}/logs", "TailLogs", True),
        ("/runs", "ListRuns", True),
        ("/projects", "ListProjects", True),
    ],
)
def test_hanging_calls_and_streams_end_with_their_request(
    *,
    url: str,
    local_flyte: LocalFlyte,
    counting: str,
    path: str,
    call: str,
    hangs: bool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger("flyte"), "propagate", True)
    with local_flyte.hang(call) if hangs else nullcontext():
        with ExitStack() as viewers:
            for _ in range(VIEWERS):
                viewers.enter_context(connected(url, head(path.format(run=counting))))
            wait_until(lambda: local_flyte.open_calls(call) == VIEWERS)
        all_is_quiet(local_flyte, call)
    others = ("asyncio", "opentelemetry")
    assert not [record for record in caplog.records if not record.name.startswith(others)]


@router.get("/kept/{name}")
async def keep(name: str) -> str:
    run = await remote.Run.get.aio(name)
    lines = run.get_logs.aio()
    kept.append(lines)
    await anext(lines)
    return str(await anext(lines))


@router.get("/sync/kept/{name}")
def sync_keep(name: str) -> str:
    lines = remote.Run.get(name).get_logs()
    kept.append(lines)
    return str(next(lines))


@router.get("/background")
async def background(tasks: BackgroundTasks) -> str:
    async def after() -> None:
        await asyncio.to_thread(client_has_left.wait)
        for _ in range(10):  # the app could notice it meanwhile
            heard.append((await remote.User.get.aio()).name())

    tasks.add_task(after)
    return "answered"


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    kept.clear()
    heard.clear()
    client_has_left.clear()
    yield
    kept.clear()


@pytest.mark.parametrize("path", ["/kept/{run}", "/sync/kept/{run}"])
def test_unfinished_iterator_ends_with_its_request(
    alice: httpx.Client, local_flyte: LocalFlyte, counting: str, path: str
) -> None:
    assert alice.get(path.format(run=counting)).text
    all_is_quiet(local_flyte, "TailLogs")


def test_background_task_acts_as_caller(url: str) -> None:
    with client_of(url, "alice") as client:
        assert client.get("/background").json() == "answered"
    client_has_left.set()
    wait_until(lambda: heard == ["Alice Adams"] * 10)


@router.post("/slow-upload")
async def upload(request: Request) -> None:
    heard.append(str(len(await request.body())))
    try:
        await asyncio.Event().wait()
    finally:
        heard.append("ended")


@pytest.mark.parametrize("size", [2, 300_000])
def test_disconnect_after_slow_upload_ends_request(url: str, size: int) -> None:
    begin = head("/slow-upload", f"Content-Length: {size}", method="POST")
    with connected(url, begin + b"x") as client:
        client.sendall(bytes(size - 1))
        wait_until(lambda: heard == [f"{size}"])
    wait_until(lambda: heard == [f"{size}", "ended"], 20)


@router.post("/uploads", max_body_size=10_000_000)
async def upload_to_flyte(request: Request) -> None:
    await request.body()
    await remote.User.get.aio()


late_tasks = set[asyncio.Task[None]]()


@router.post("/late-task")
async def late_task(failing: bool = False) -> None:
    async def call() -> None:
        try:
            await asyncio.to_thread(client_has_left.wait)
            await remote.User.get.aio()
        finally:
            heard.append("ended")

    late_tasks.add(task := asyncio.create_task(call()))
    task.add_done_callback(late_tasks.discard)
    if failing:
        raise HTTPException(409, "no")


@pytest.mark.parametrize("failing", [False, True])
def test_call_after_response_is_logged(
    url: str, caplog: pytest.LogCaptureFixture, failing: bool
) -> None:
    with client_of(url, "alice") as client:
        client.post("/late-task", params={"failing": failing})
    client_has_left.set()
    wait_until(lambda: heard == ["ended"])
    (warning,) = (one.getMessage() for one in caplog.records if one.levelname == "WARNING")
    assert warning.startswith("POST /late-task: a task called Flyte after the response")
    assert "BackgroundTasks" in warning


@router.post("/cancelled-task")
async def cancelled_task() -> None:
    async def call() -> None:
        await remote.User.get.aio()

    late_tasks.add(task := asyncio.create_task(call()))
    task.add_done_callback(late_tasks.discard)
    await asyncio.sleep(0.05)
    task.cancel()


def test_call_cancelled_by_endpoint_is_not_logged(
    url: str, local_flyte: LocalFlyte, caplog: pytest.LogCaptureFixture
) -> None:
    with local_flyte.hang("UserInfo"), client_of(url, "alice") as client:
        assert client.post("/cancelled-task").is_success
        wait_until(lambda: local_flyte.open_calls("UserInfo") == 0)
    assert not [one for one in caplog.records if "after the response" in one.getMessage()]


@router.post("/run-in-background")
async def run_in_background(tasks: BackgroundTasks) -> None:
    task = remote.Task.get("tests.greet", auto_version="latest")
    tasks.add_task(flyte.run.aio, task, name="Ada")


def test_background_task_awaits_function_of_sdk(url: str, called: Called) -> None:
    with client_of(url, "alice") as client:
        assert client.post("/run-in-background").is_success
    wait_until(lambda: called("CreateRun") == 1)


NO_BODY = "Accept: */*"
UNREAD = {
    "pipelined": (NO_BODY, head("/mark")),
    "pipelined with body": (NO_BODY, head("/mark", "Content-Length: 9") + bytes(9)),
    "pipelined with a large body": (
        NO_BODY,
        head("/no-body", "Content-Length: 900000", method="POST") + bytes(500_000),
    ),
    "many pipelined": (NO_BODY, head("/mark") * 100),
}


@pytest.mark.parametrize(("header", "rest"), UNREAD.values(), ids=UNREAD)
def test_disconnect_is_detected_despite_unread_bytes(
    url: str, local_flyte: LocalFlyte, counting: str, header: str, rest: bytes
) -> None:
    with connected(url, head(f"/runs/{counting}/wait-sync", header)) as client:
        wait_until(lambda: local_flyte.open_calls("WatchActionDetails") == 1)
        with suppress(ConnectionError):  # the server closes it
            for byte in rest[:4]:
                client.sendall(bytes([byte]))
                time.sleep(0.1)  # the server reads it before it can see the end
            client.sendall(rest[4:])
        time.sleep(0.1)
    wait_until(lambda: local_flyte.open_calls("WatchActionDetails") == 0, 60)


@pytest.mark.parametrize("size", [5_000, 9_000_000])
def test_disconnect_of_upload_cancels_hanging_identity_call(
    url: str, local_flyte: LocalFlyte, size: int
) -> None:
    """The app asks Flyte for the caller's identity before it reads an upload."""
    upload = head("/uploads", f"Content-Length: {size}", method="POST") + bytes(min(size, 50_000))
    with local_flyte.hang("UserInfo"):
        with ExitStack() as clients:
            for _ in range(VIEWERS):
                clients.enter_context(connected(url, upload))
            wait_until(lambda: local_flyte.open_calls("UserInfo") == VIEWERS)
        wait_until(lambda: local_flyte.open_calls("UserInfo") == 0)


@router.post("/no-body")
async def ignore_body() -> None:
    heard.append("started")
    try:
        await asyncio.Event().wait()
    finally:
        heard.append("ended")


def test_disconnect_ends_post_that_ignores_body(url: str) -> None:
    request = head("/no-body", "Content-Length: 200000", method="POST")
    with connected(url, request + bytes(200_000)):
        wait_until(lambda: heard == ["started"])
    wait_until(lambda: heard == ["started", "ended"], 20)


@router.post("/own-wait")
async def own_wait() -> None:
    run = await flyte.run.aio(remote.Task.get("tests.greet", auto_version="latest"), name="Ada")
    heard.append(run.name)
    await asyncio.Event().wait()


def test_stopping_server_responds_to_waiting_clients(
    local_flyte: LocalFlyte, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cancellation, "STOP_SECONDS", 0.5)
    with ThreadPoolExecutor(2) as threads, ExitStack() as clients:
        with serving(build_app(router)) as url:
            alice = clients.enter_context(client_of(url, "alice"))
            waiting = threads.submit(alice.post, "/own-wait")
            wait_until(lambda: heard)
            short = threads.submit(alice.get, "/own-short")
            wait_until(lambda: len(heard) == 2)
        stopped = waiting.result()
        assert short.result().json() == "finished"
    assert (stopped.status_code, stopped.headers["Retry-After"]) == (503, "5")
    assert stopped.json()["code"] == "stopping"
    assert stopped.json()["detail"] == f"this replica stops; the run {heard[0]} goes on"
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@router.get("/own-short")
async def own_short() -> str:
    heard.append("short")
    await asyncio.sleep(0.2)
    return "finished"


def test_deadline_ends_threads_that_wait_for_flyte(
    local_flyte: LocalFlyte, counting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The deadline passes long before a call to Flyte gives up.
    monkeypatch.setattr(request_state, "CALLS_PER_RESPONSE", 1 / 3600)
    app = build_app(router, **SETTINGS)
    with (
        local_flyte.hang("ListProjects"),
        serving(app) as url,
        client_of(url, "alice") as alice,
        ThreadPoolExecutor(2) as threads,
    ):
        for answer in threads.map(alice.get, (f"/runs/{counting}/wait-sync", "/projects")):
            assert answer.status_code == 504

"""Tests of the deadline and the messages of a request."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import flyte
import flyte.io
import httpx
import pytest
from flyte import remote

from app.routers import tasks
from local_flyte import LocalFlyte
from local_flyte.testing import ended, start, wait_until
from passthrough.calls.request_state import Deadline, RequestState, this_request

from ..stub_servers import lines
from ..support import connected, head, router_of, run_of

router = router_of(tasks)


@router.post("/deadlines")
def deadlines() -> list[float]:
    def deadline() -> float:
        return time.monotonic() + this_request().deadline.seconds_left()

    before = deadline()
    flyte.run(remote.Task.get("tests.greet", auto_version="latest"), name="Ada")
    return [before, deadline()]


def test_started_run_extends_deadline_of_request(alice: httpx.Client) -> None:
    before, after = alice.post("/deadlines").json()
    assert after > before


@router.get("/late")
async def late() -> None:
    while this_request().deadline.seconds_left() > 0:
        pass  # the loop is busy, so it cannot cancel the request
    await remote.User.get.aio()


def test_deadline_passed_in_busy_loop_is_504(short_timeout: httpx.Client) -> None:
    assert short_timeout.get("/late").status_code == 504


def test_run_is_not_started_after_deadline() -> None:
    """A thread continues after the deadline."""

    async def start() -> None:
        deadline = Deadline(0, lambda: None)
        await asyncio.sleep(0.01)
        with (
            pytest.raises(asyncio.CancelledError),
            RequestState(deadline).calls.cancel_task_at_end(),
        ):
            pass

    asyncio.run(start())


def messages(client: httpx.Client) -> Counter[str]:
    """Return how many bytes Flyte's messages in the app's memory had, by kind."""
    return Counter(client.get("/memory").json()["messages"])


def test_ended_requests_need_no_garbage_collection(probe: httpx.Client) -> None:
    for path in ("/me", "/runs", "/runs/none", "/none"):
        probe.get(path)
    wait_until(lambda: not probe.get("/memory").json()["requests"])


SMALL = 10_000  # bytes, of names and states


def leave(client: httpx.Client, path: str, flyte: LocalFlyte, call: str, waits_for: bytes) -> None:
    """Send a request, and leave while its call to Flyte is open and once this has been answered."""
    with connected(str(client.base_url), head(path)) as connection:
        answer = b""
        while waits_for not in answer:
            answer += connection.recv(1 << 16)
        wait_until(lambda: not call or flyte.open_calls(call) == 1)
    wait_until(lambda: flyte.open_calls(call) == 0)


@pytest.mark.parametrize(
    ("path", "call", "waits_for"),
    [
        ("/runs/{run}/io", "GetActionData", b""),
        ("/runs/{run}/actions", "GetActionDetails", b""),
        ("/runs/{run}?wait=60", "WatchActions", b""),
        ("/runs/{run}/events", "WatchActions", b"data: "),
        ("/runs/{run}/actions/events", "WatchActions", b"data: "),
        ("/naive/runs/{run}/log", "TailLogs", b""),
        ("/naive/runs/{run}/io", "GetActionData", b""),
    ],
)
def test_disconnected_request_keeps_no_message_in_memory(
    *,
    probe: httpx.Client,
    local_flyte: LocalFlyte,
    counting: str,
    path: str,
    call: str,
    waits_for: bytes,
) -> None:
    def request_and_leave() -> None:
        with nullcontext() if waits_for else local_flyte.hang(call):
            leave(probe, path.format(run=counting), local_flyte, call, waits_for)

    request_and_leave()  # what is imported or cached at the first request
    before = messages(probe)
    request_and_leave()
    wait_until(lambda: not messages(probe) - before)


def test_interrupted_stream_frees_memory_of_its_message(
    probe: httpx.Client, log: Callable[..., None], counting: str, local_flyte: LocalFlyte
) -> None:
    log(lines(*["x" * 100] * 5_000))
    before = messages(probe)
    leave(probe, f"/runs/{counting}/logs", local_flyte, "", b"data: ")
    wait_until(lambda: (messages(probe) - before).total() < SMALL)


@contextmanager
def large(flyte: LocalFlyte, run: str) -> Iterator[None]:
    """Give the actions of a run, and the task of the first, many small parts, for the block."""
    details: list[Any] = [action.details for action in run_of(flyte, run).actions.values()]
    task = flyte._services.tasks.get(details[0].task.task_template.id)
    before = [type(message).FromString(message.SerializeToString()) for message in (task, *details)]
    try:
        for message in details:
            for number in range(30_000):
                message.metadata.trigger_type.artifact.partitions[f"{number:06}"] = ""
                if message.HasField("condition"):
                    message.condition.type.metadata[f"{number:06}"] = None
                else:
                    message.task.task_template.container.env.add(key=f"{number:06}")
        task.spec.CopyFrom(details[0].task)
        yield
    finally:
        for message, was in zip((task, *details), before, strict=True):
            message.CopyFrom(was)


def test_waiting_request_keeps_no_large_message_in_memory(
    probe: httpx.Client, counting: str, local_flyte: LocalFlyte
) -> None:
    before, paths = messages(probe), ("?wait=60", "/events", "/actions/events", "/logs")
    with large(local_flyte, counting), ExitStack() as clients:
        for path in paths:
            request = head(f"/runs/{counting}{path}")
            clients.enter_context(connected(str(probe.base_url), request))
        opened = {"WatchActions": 3, "TailLogs": 1}
        wait_until(lambda: {method: local_flyte.open_calls(method) for method in opened} == opened)
        wait_until(lambda: (messages(probe) - before).total() < SMALL)


@pytest.fixture(scope="module")
def asking(local_flyte: LocalFlyte) -> str:
    """The name of a run by alice that waits for an answer."""
    run = start("tests.ask", prompts=["?"])
    record = run_of(local_flyte, run)
    wait_until(lambda: len(record.actions) > 1)
    return run


BODIES = {"conditions": b'{"value": true}'}


@pytest.mark.parametrize(
    ("path", "call"),
    [
        ("GET /runs/{run}/report", "CreateDownloadLink"),
        ("POST /runs/{run}/abort", "AbortRun"),
        ("POST /runs/{run}/actions/a0/abort", "AbortAction"),
        ("POST /runs/{run}/conditions/{question}", "SignalEvent"),
    ],
)
def test_pending_call_to_flyte_holds_no_large_message(
    *, probe: httpx.Client, local_flyte: LocalFlyte, asking: str, path: str, call: str
) -> None:
    record = run_of(local_flyte, asking)
    method, _, path = path.format(run=asking, question=[*record.actions][-1]).partition(" ")
    body = next((body for part, body in BODIES.items() if part in path), b"")
    kind = ("Content-Type: application/json", f"Content-Length: {len(body)}")
    request = head(path, *kind, method=method) + body
    before = messages(probe)
    with large(local_flyte, asking), local_flyte.hang(call):
        with connected(str(probe.base_url), request):
            wait_until(lambda: local_flyte.open_calls(call) == 1)
            wait_until(lambda: (messages(probe) - before).total() < SMALL)
        wait_until(lambda: local_flyte.open_calls(call) == 0)  # before it takes effect


def test_unread_log_response_keeps_no_message_in_memory(
    probe: httpx.Client, log: Callable[..., None], counting: str, local_flyte: LocalFlyte
) -> None:
    log(*[lines(*["x" * 49_000] * 100)] * 3)
    before = messages(probe)
    with ExitStack() as clients:
        request = head(f"/runs/{counting}/logs")
        first, *_ = (
            clients.enter_context(connected(str(probe.base_url), request, 4096)) for _ in range(3)
        )
        assert first.recv(12)
        wait_until(lambda: (messages(probe) - before).total() < SMALL)
    wait_until(lambda: not local_flyte.open_calls("WatchActions"))


def test_largest_inputs_and_outputs_are_readable(probe: httpx.Client) -> None:
    name = "x" * (2 * 2**20 - 64)  # Flyte returns up to 2 MiB of either
    run = ended(start("tests.greet", name=name))
    data = probe.get(f"/runs/{run}/io").json()
    assert data["inputs"]["name"] == name
    assert f"Hello, {name}." in str(data["outputs"])

"""GET /runs/{name}/events and /logs: streams about a run, until it has ended."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import ExitStack, aclosing
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from fastapi import HTTPException
from flyteidl2.common.identifier_pb2 import ActionIdentifier
from flyteidl2.common.phase_pb2 import ActionPhase
from flyteidl2.dataproxy.dataproxy_service_pb2 import TailLogsResponse
from flyteidl2.workflow.run_definition_pb2 import ActionDetails, ActionStatus, PhaseTransition
from flyteidl2.workflow.run_service_pb2 import WatchActionDetailsResponse

from app.flyte_client import Flyte
from app.main import create_app
from app.settings import load_settings
from app.watching import log, states
from local_flyte import LocalFlyte

from .support import long_run, run_task, serving


def test_events_tell_every_phase_until_the_run_has_ended(alice: httpx.Client) -> None:
    run = run_task(alice, "count", to=1)
    response = alice.get(f"/runs/{run['name']}/events")
    assert response.headers["Content-Type"].startswith("text/event-stream")
    lines = response.text.splitlines()
    assert {line for line in lines if line.startswith("event:")} == {"event: phase"}
    states = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data:")]
    phases = [state["phase"] for state in states]
    assert phases[-1] == "succeeded"
    assert "running" in phases
    assert len(set(phases)) == len(phases)
    assert {state["name"] for state in states} == {run["name"]}


def test_a_log_is_sent_while_it_is_written(alice: httpx.Client) -> None:
    with long_run(alice) as run, alice.stream("GET", f"/runs/{run['name']}/logs") as response:
        assert any("1 of 1000" in line for line in response.iter_lines())


@pytest.mark.steers_flyte
def test_a_silent_log_ends_with_its_run(
    hurried: httpx.Client, local_flyte: LocalFlyte, greeting: dict[str, Any]
) -> None:
    with local_flyte.hang("TailLogs"):
        assert hurried.get(f"/runs/{greeting['name']}/logs").status_code == 200


def test_nothing_is_left_of_a_stream_when_its_client_has_gone(
    environment: dict[str, str], alice: httpx.Client
) -> None:
    with (
        long_run(alice) as run,
        serving(create_app(load_settings())) as url,  # stops only when no request is left
        alice.stream("GET", f"{url}/runs/{run['name']}/events") as response,
    ):
        next(response.iter_lines())


def test_flyte_is_asked_ever_more_seldom_if_it_ends_each_stream_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    async def watch(_: Any) -> AsyncIterator[WatchActionDetailsResponse]:
        yield WatchActionDetailsResponse(
            details=ActionDetails(status=ActionStatus(phase=ActionPhase.ACTION_PHASE_RUNNING))
        )

    async def follow() -> None:
        flyte: Any = SimpleNamespace(runs=SimpleNamespace(watch_action_details=watch), timeout=60.0)
        async with aclosing(states(flyte, ActionIdentifier())) as found:
            for _ in range(9):
                await anext(found)

    monkeypatch.setattr(asyncio, "sleep", note)
    asyncio.run(follow())
    assert pauses == [0.25, 0.5, 1, 2, 4, 8, 8, 8]


@pytest.mark.parametrize("stream", ["events", "logs"])
def test_a_run_that_does_not_exist_is_a_problem(alice: httpx.Client, stream: str) -> None:
    response = alice.get(f"/runs/none/{stream}")
    assert response.status_code == 404
    assert response.headers["Content-Type"] == "application/problem+json"


def test_events_are_taken_up_where_they_were_cut_off(
    alice: httpx.Client, greeting: dict[str, Any]
) -> None:
    path = f"/runs/{greeting['name']}/events"
    assert "id: succeeded\n" in alice.get(path, headers={"Last-Event-ID": "running"}).text
    # A browser would otherwise ask for ever after.
    assert alice.get(path, headers={"Last-Event-ID": "succeeded"}).status_code == 204


@pytest.mark.logs_after_end
def test_a_log_is_taken_up_where_it_was_cut_off(alice: httpx.Client) -> None:
    run = run_task(alice, "count", to=3)
    path = f"/runs/{run['name']}/logs"
    lines = alice.get(path).text.splitlines()
    assert [line for line in lines if " of 3" in line] == ["1 of 3", "2 of 3", "3 of 3"]
    assert alice.get(path, params={"skip": 2}).text.splitlines() == lines[2:]
    assert alice.get(path, params={"skip": 99}).text == ""


@pytest.mark.steers_flyte
def test_a_deleted_log_is_410(
    alice: httpx.Client, local_flyte: LocalFlyte, greeting: dict[str, Any]
) -> None:
    local_flyte.fail_next("TailLogs", Code.NOT_FOUND)
    gone = alice.get(f"/runs/{greeting['name']}/logs")
    assert gone.status_code == 410
    assert "no longer" in gone.json()["detail"]


class PodIsGone:
    """A Flyte that knows one run, which has ended, and has no log of it."""

    timeout = 1.0

    def __init__(self, root: ActionDetails) -> None:
        self._root = root

    async def get_action(self, _: object) -> ActionDetails:
        return self._root

    async def tail_logs(self, *_: object) -> AsyncIterator[TailLogsResponse]:
        raise ConnectError(Code.NOT_FOUND, "there is no pod")


@pytest.mark.parametrize(
    ("phase", "attempts", "is_gone"),
    [
        ("ABORTED", [], False),
        # As Flyte reports the abort of what was queued.
        ("ABORTED", [("ABORTED", ["QUEUED", "ABORTED"])], False),
        ("FAILED", [("FAILED", ["QUEUED", "INITIALIZING", "FAILED"])], False),
        ("ABORTED", [("ABORTED", ["QUEUED", "RUNNING", "ABORTED"])], True),
        ("ABORTED", [("FAILED", ["RUNNING", "FAILED"]), ("ABORTED", ["QUEUED"])], True),
        ("SUCCEEDED", [("SUCCEEDED", ["QUEUED", "SUCCEEDED"])], True),
    ],
)
def test_a_log_that_never_was_is_empty_and_not_gone(
    phase: str, attempts: list[tuple[str, list[str]]], is_gone: bool
) -> None:
    def number(name: str) -> Any:
        return ActionPhase.Value(f"ACTION_PHASE_{name}")

    root = ActionDetails(status=ActionStatus(phase=number(phase)))
    for last, phases in attempts:
        transitions = [PhaseTransition(phase=number(each)) for each in phases]
        root.attempts.add(phase=number(last), phase_transitions=transitions)

    async def read() -> None:
        flyte = cast("Flyte", PodIsGone(root))
        async with aclosing(log(flyte, ActionIdentifier())) as batches:
            assert [lines async for lines in batches if lines] == []

    if is_gone:
        with pytest.raises(HTTPException, match="410"):
            asyncio.run(read())
    else:
        asyncio.run(read())


@pytest.mark.steers_flyte
def test_a_log_that_is_not_there_yet_is_waited_for(
    alice: httpx.Client, local_flyte: LocalFlyte
) -> None:
    with long_run(alice) as run:
        local_flyte.fail_next("TailLogs", Code.NOT_FOUND, times=2)
        with alice.stream("GET", f"/runs/{run['name']}/logs") as response:
            assert response.status_code == 200
            assert any("1 of 1000" in line for line in response.iter_lines())


@pytest.mark.steers_flyte
def test_a_watch_that_breaks_off_is_opened_again(
    alice: httpx.Client, local_flyte: LocalFlyte
) -> None:
    run = run_task(alice, "count", to=1)
    local_flyte.fail_next("WatchActionDetails", Code.UNAVAILABLE, times=2)
    text = alice.get(f"/runs/{run['name']}/events").text
    assert "event: problem" not in text
    assert '"phase":"succeeded"' in text


@pytest.mark.steers_flyte
@pytest.mark.parametrize("stream", ["events", "logs"])
def test_a_stream_that_never_begins_is_told_by_its_status(
    hurried: httpx.Client, local_flyte: LocalFlyte, greeting: dict[str, Any], stream: str
) -> None:
    call = {"events": "WatchActionDetails", "logs": "GetActionDetails"}[stream]
    with local_flyte.hang(call):
        response = hurried.get(f"/runs/{greeting['name']}/{stream}")
    assert response.status_code == 504
    assert response.headers["Content-Type"] == "application/problem+json"


@pytest.mark.steers_flyte
@pytest.mark.parametrize(
    ("stream", "end"),
    [
        ("events", r'"title":"Gateway Timeout".*\n\n\Z'),
        # Without a newline: who counts the lines, to go on from there, does not count it.
        ("logs", r"(?m:^)\[the log breaks off here: Gateway Timeout\]\Z"),
    ],
)
def test_a_stream_that_fails_halfway_says_so_at_its_end(
    hurried: httpx.Client, local_flyte: LocalFlyte, stream: str, end: str
) -> None:
    with (
        long_run(hurried) as run,
        ExitStack() as hanging,
        hurried.stream("GET", f"/runs/{run['name']}/{stream}") as response,
    ):
        text = response.iter_text()
        next(text)
        for call in ("WatchActionDetails", "GetActionDetails", "TailLogs"):
            hanging.enter_context(local_flyte.hang(call))
        assert re.search(end, "".join(text))

"""Tests of the event streams GET /runs/{name}/events and /runs/{name}/logs."""

import json

import httpx
import pytest

from local_flyte import Code, LocalFlyte
from local_flyte.testing import events, start

from .deployed_tasks import count


def test_run_events_end_with_run(alice: httpx.Client) -> None:
    run = start(count.name, to=1)
    response = alice.get(f"/runs/{run}/events")
    assert response.headers["Content-Type"].startswith("text/event-stream")
    received = [*events(response)]
    assert {event.type for event in received} == {"phase"}
    states = [json.loads(event.data) for event in received]
    phases = [state["phase"] for state in states]
    assert [f"1-{phase}" for phase in phases] == [event.id for event in received]
    assert phases[-1] == "succeeded"
    assert "running" in phases
    assert len(set(phases)) == len(phases)
    assert {state["name"] for state in states} == {run}


def test_run_events_resume_after_disconnect(alice: httpx.Client, greeting: str) -> None:
    path = f"/runs/{greeting}/events"
    for last_id, ids in (("1-running", ["1-succeeded"]), ("1-succeeded", [])):
        received = events(alice.get(path, headers={"Last-Event-ID": last_id}))
        assert [event.id for event in received] == ids


def test_log_streams_live_and_resumes(alice: httpx.Client, counting: str) -> None:
    path = f"/runs/{counting}/logs"
    for last_line in (0, 3):
        headers = {"Last-Event-ID": f"1-{last_line}"}
        with alice.stream("GET", path, headers=headers) as response:
            assert response.status_code == 200
            assert next(events(response)).id == f"1-{last_line + 1}"
    assert alice.get(path, headers={"Last-Event-ID": "not a number"}).status_code == 422


@pytest.mark.parametrize("stream", ["events", "logs", "actions/events"])
def test_missing_run_is_404(alice: httpx.Client, stream: str) -> None:
    response = alice.get(f"/runs/none/{stream}")
    assert response.status_code == 404
    assert response.headers["Content-Type"] == "application/problem+json"


@pytest.mark.steers_flyte
@pytest.mark.parametrize(
    ("stream", "call"),
    [("events", "WatchActions"), ("logs", "TailLogs"), ("actions/events", "WatchActions")],
)
def test_stream_failing_at_start_returns_problem_response(
    alice: httpx.Client, local_flyte: LocalFlyte, counting: str, stream: str, call: str
) -> None:
    if "/runs/{name}/" + stream not in alice.get("/openapi.json").json()["paths"]:
        pytest.skip("this app has no such stream")
    local_flyte.fail_next(call, Code.UNKNOWN)
    response = alice.get(f"/runs/{counting}/{stream}")
    assert (response.status_code, response.json()["status"]) == (502, 502)

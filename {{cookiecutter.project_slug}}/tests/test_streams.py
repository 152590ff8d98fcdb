"""GET /runs/{name}/events and /logs: streams about a run, until it has ended."""

import json
from typing import Any

import httpx
import pytest

from app.main import create_app
from app.settings import load_settings
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
    assert "1 of 1\n" in alice.get(f"/runs/{run['name']}/logs").text


def test_a_log_is_sent_while_it_is_written(alice: httpx.Client) -> None:
    with long_run(alice) as run, alice.stream("GET", f"/runs/{run['name']}/logs") as response:
        assert any("1 of 1000" in line for line in response.iter_lines())


@pytest.mark.local_flyte
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


@pytest.mark.parametrize("stream", ["events", "logs"])
def test_a_run_that_does_not_exist_is_a_problem(alice: httpx.Client, stream: str) -> None:
    response = alice.get(f"/runs/none/{stream}")
    assert response.status_code == 404
    assert response.headers["Content-Type"] == "application/problem+json"

"""Watching a run: server-sent events, its log, and a WebSocket."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from app.main import create_app
from app.settings import load_settings
from local_flyte import PEOPLE

from .support import run_task, serving


@contextmanager
def watching(url: str, client: httpx.Client, run: dict[str, Any]) -> Iterator[ClientConnection]:
    """Open the WebSocket about a run with a client's credentials."""
    address = f"{url.replace('http', 'ws', 1)}/runs/{run['name']}/watch"
    sent = {"Authorization": client.headers["Authorization"]}
    with connect(address, additional_headers=sent, proxy=None) as websocket:
        yield websocket


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
    run = run_task(alice, "count", to=1000)
    with alice.stream("GET", f"/runs/{run['name']}/logs") as response:
        assert any("1 of 1000" in line for line in response.iter_lines())
    assert alice.get(f"/runs/{run['name']}").json()["phase"] == "running"
    alice.post(f"/runs/{run['name']}/abort")


def test_a_websocket_tells_every_phase_and_closes(app_url: str, alice: httpx.Client) -> None:
    run = run_task(alice, "count", to=1)
    with watching(app_url, alice, run) as websocket:
        states = [json.loads(message) for message in websocket]
        assert websocket.close_code == 1000
    assert states[-1]["phase"] == "succeeded"
    assert {state["name"] for state in states} == {run["name"]}


def test_a_websocket_about_no_run_is_refused(app_url: str, alice: httpx.Client) -> None:
    with (
        pytest.raises(InvalidStatus) as refused,
        watching(app_url, alice, {"name": "none"}),
    ):
        pass
    assert refused.value.response.status_code == 404
    assert json.loads(refused.value.response.body or b"")["title"] == "Not Found"


@pytest.mark.local_flyte
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({}, 401),
        ({"Authorization": f"Bearer {PEOPLE['expired'].token}"}, 401),
        ({"Authorization": f"Bearer {PEOPLE['carol'].token}"}, 403),
        ({"Cookie": PEOPLE["alice"].cookie, "Origin": "https://elsewhere.example"}, 403),
    ],
)
def test_a_websocket_without_rights_is_refused_before_it_opens(
    app_url: str, greeting: dict[str, Any], sent: dict[str, str], status: int
) -> None:
    url = f"{app_url.replace('http', 'ws', 1)}/runs/{greeting['name']}/watch"
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(url, additional_headers=sent, proxy=None),
    ):
        pass
    assert refused.value.response.status_code == status


def test_nothing_is_left_of_a_watch_when_its_client_has_gone(
    environment: dict[str, str], alice: httpx.Client
) -> None:
    run = run_task(alice, "count", to=1000)
    with serving(create_app(load_settings())) as url:  # stops only when no request is left
        with watching(url, alice, run) as websocket:
            websocket.recv()
        with alice.stream("GET", f"{url}/runs/{run['name']}/events") as response:
            next(response.iter_lines())
    alice.post(f"/runs/{run['name']}/abort")

"""The WebSocket /runs/{name}/watch: a run's phases, until it has ended."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from app.main import create_app
from app.settings import load_settings
from local_flyte import PEOPLE

from .support import authorization_of, long_run, run_task, serving

ALICE = {"Authorization": authorization_of("alice")}
EXPIRED, CAROL = (
    {"Authorization": f"Bearer {PEOPLE[name].token}"} for name in ("expired", "carol")
)


@contextmanager
def watching(url: str, run: dict[str, Any], sent: Mapping[str, str]) -> Iterator[ClientConnection]:
    """Open the WebSocket about a run with these headers."""
    address = f"{url.replace('http', 'ws', 1)}/runs/{run['name']}/watch"
    with connect(address, additional_headers=sent, proxy=None, open_timeout=60) as websocket:
        yield websocket


def test_it_tells_every_phase_and_closes(app_url: str, alice: httpx.Client) -> None:
    run = run_task(alice, "count", to=1)
    with watching(app_url, run, ALICE) as websocket:
        states = [json.loads(message) for message in websocket]
        assert websocket.close_code == 1000
    assert states[-1]["phase"] == "succeeded"
    assert {state["name"] for state in states} == {run["name"]}


def test_a_run_that_does_not_exist_is_a_problem(app_url: str) -> None:
    with pytest.raises(InvalidStatus) as refused, watching(app_url, {"name": "none"}, ALICE):
        pass
    assert refused.value.response.status_code == 404
    assert json.loads(refused.value.response.body or b"")["title"] == "Not Found"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({}, 401),
        pytest.param(EXPIRED, 401, marks=pytest.mark.authorization),
        pytest.param(CAROL, 403, marks=pytest.mark.authorization),
        ({"Cookie": PEOPLE["alice"].cookie, "Origin": "https://elsewhere.example"}, 403),
    ],
)
def test_without_rights_it_is_refused_before_it_opens(
    app_url: str, greeting: dict[str, Any], sent: dict[str, str], status: int
) -> None:
    with pytest.raises(InvalidStatus) as refused, watching(app_url, greeting, sent):
        pass
    assert refused.value.response.status_code == status


def test_nothing_is_left_of_it_when_its_client_has_gone(
    environment: dict[str, str], alice: httpx.Client
) -> None:
    with (
        long_run(alice) as run,
        serving(create_app(load_settings())) as url,  # stops only when no request is left
        watching(url, run, ALICE) as websocket,
    ):
        websocket.recv()


def test_what_its_client_says_is_ignored(app_url: str, alice: httpx.Client) -> None:
    with ExitStack() as running:
        run = running.enter_context(long_run(alice))
        with watching(app_url, run, ALICE) as websocket:
            websocket.recv()
            websocket.send("hello")
            websocket.send(b"\x00")
            running.close()
            assert [json.loads(message) for message in websocket][-1]["phase"] == "aborted"
            assert websocket.close_code == 1000


def test_its_headers_are_not_logged(app_url: str, caplog: pytest.LogCaptureFixture) -> None:
    server = logging.getLogger("uvicorn.error")
    server.addHandler(caplog.handler)
    try:
        with (
            caplog.at_level(logging.DEBUG, server.name),
            pytest.raises(InvalidStatus),
            watching(app_url, {"name": "none"}, ALICE),
        ):
            pass
    finally:
        server.removeHandler(caplog.handler)
    assert ALICE["Authorization"] not in caplog.text

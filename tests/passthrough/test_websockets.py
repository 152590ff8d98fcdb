"""WebSockets: uvicorn's limits on messages from clients, and what uvicorn logs."""

import logging
from pathlib import Path

import pytest
import uvicorn
from fastapi import APIRouter, WebSocket
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from local_flyte.testing import bearer
from passthrough.requests.serving import COMMAND_LINE, UVICORN

router = APIRouter()
HEADERS = {"Authorization": bearer("alice")}


@router.websocket("/watch")
async def watch(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("seen")
    await websocket.receive_text()


def test_a_large_message_is_refused_and_none_is_compressed(url: str) -> None:
    with connect(f"ws{url[4:]}/watch", additional_headers=HEADERS, proxy=None) as connection:
        assert connection.recv() == "seen"
        assert connection.protocol.extensions == []
        connection.send("x" * (UVICORN["ws_max_size"] + 1))
        with pytest.raises(ConnectionClosed):
            connection.recv(timeout=60)
        assert connection.close_code == 1009


def test_every_way_to_start_the_app_has_the_same_limits(default_project: Path) -> None:
    context = uvicorn.main.make_context("uvicorn", [*COMMAND_LINE.split(), "app.main:app"])
    assert {name: context.params[name] for name in UVICORN} == UVICORN
    for file, use in (
        ("deployment.py", "**UVICORN"),
        ("local_flyte/__main__.py", "*COMMAND_LINE."),
    ):
        assert use in (default_project / file).read_text("utf-8")


def test_neither_its_headers_nor_its_query_nor_a_refusal_is_logged_by_the_server(
    url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("uvicorn", "uvicorn.error"):  # which another test's server may have configured
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
        caplog.set_level(logging.DEBUG, logger=name)
    address = f"ws{url[4:]}/watch?token=secret"
    with connect(address, additional_headers=HEADERS, proxy=None, open_timeout=60) as websocket:
        websocket.recv()
    with pytest.raises(InvalidStatus), connect(address, proxy=None, open_timeout=60):
        pass
    assert [each for each in caplog.records if each.name.startswith("uvicorn")] == []

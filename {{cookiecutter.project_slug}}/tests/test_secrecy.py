"""Flyte quotes the caller's token in its errors: it is in no answer and in no log, at any level."""

import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from connectrpc.code import Code
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from app import flyte_client, watching
from local_flyte import PEOPLE, LocalFlyte

from .support import OPERATIONS, TASKS, offers

TOKEN = PEOPLE["alice"].token
BODIES = {("POST", "/tasks/{name}/runs"): {"inputs": {"name": "Ada"}}}

pytestmark = [
    pytest.mark.steers_flyte,
    pytest.mark.skipif(not OPERATIONS, reason="the app has no endpoint that calls Flyte"),
]


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Everything that is logged, also where a logger keeps its records from the root."""
    loggers = [logging.getLogger(name) for name in ("flyte", "uvicorn", "uvicorn.error", "app")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
        logger.addHandler(caplog.handler)
    with caplog.at_level(logging.DEBUG):
        yield caplog
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
        logger.removeHandler(caplog.handler)


@pytest.fixture(scope="module")
def calls_of(
    hurried: httpx.Client, local_flyte: LocalFlyte, greeting: dict[str, Any]
) -> dict[tuple[str, str], list[str]]:
    """The methods of Flyte's that each operation calls, in order."""
    found = {}
    for operation in OPERATIONS:
        local_flyte.clear_calls()
        request(hurried, operation, greeting)
        found[operation] = list(dict.fromkeys(call.method for call in local_flyte.calls))
    return found


def request(
    client: httpx.Client, operation: tuple[str, str], run: dict[str, Any]
) -> httpx.Response:
    """Do what an operation does, with a task and a run that exist."""
    method, path = operation
    name = f"{TASKS}.greet" if path.startswith("/tasks") else run["name"]
    return client.request(method, path.replace("{name}", name), json=BODIES.get(operation))


@pytest.mark.parametrize("code", list(Code))
def test_a_token_that_flyte_quotes_is_in_no_answer_and_no_log(
    hurried: httpx.Client,
    local_flyte: LocalFlyte,
    greeting: dict[str, Any],
    calls_of: dict[tuple[str, str], list[str]],
    code: Code,
    logged: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (flyte_client, watching):  # what is unavailable is asked for again and again
        monkeypatch.setattr(module, "PAUSES", (0.01, 0.01, 0.01))
    failed = 0
    for operation, methods in calls_of.items():
        for method in methods:
            local_flyte.fail_next(method, code, times=20, message=f"no good: {TOKEN}")
            response = request(hurried, operation, greeting)
            local_flyte.fail_next(method, code, times=0)
            failed += not response.is_success
            assert TOKEN not in response.text, (operation, method)
    assert failed
    assert TOKEN not in logged.text
    assert "Traceback" not in logged.text
    assert TOKEN not in "".join(capfd.readouterr())


@pytest.mark.skipif(not offers("/runs/x/watch", "WEBSOCKET"), reason="the app has no WebSocket")
@pytest.mark.parametrize("code", [Code.NOT_FOUND, Code.INTERNAL, Code.UNKNOWN])
def test_nor_is_it_told_over_a_websocket(
    hurried: httpx.Client,
    local_flyte: LocalFlyte,
    greeting: dict[str, Any],
    code: Code,
    logged: pytest.LogCaptureFixture,
) -> None:
    local_flyte.fail_next("WatchActionDetails", code, times=20, message=f"no good: {TOKEN}")
    url = f"{str(hurried.base_url).replace('http', 'ws', 1)}/runs/{greeting['name']}/watch"
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with pytest.raises(InvalidStatus) as refused:
        connect(url, additional_headers=headers, proxy=None, open_timeout=60)
    local_flyte.fail_next("WatchActionDetails", code, times=0)
    assert TOKEN.encode() not in (refused.value.response.body or b"")
    others = [record for record in logged.records if record.name != "websockets.client"]
    assert others
    assert not any(TOKEN in record.getMessage() for record in others)

"""Tests of the content and the format of the log."""

import json
import logging
import re
from typing import Any

import pytest
from flyte import remote

from passthrough.calls.redaction import REDACTED
from passthrough.http.logging_setup import MAX_RECORD_CHARS, LogFormatter, set_up_logging
from passthrough.settings import Settings

from ..support import run_python

TOKEN = "a-token-of-somebody"


FORGED = "2026-01-01T00:00:00.000+00:00 ERROR app: all is lost"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            f"one\n{FORGED}\r\x1b[2K\u2028{FORGED}",
            rf"ERROR flyte: one\n    {FORGED}\r\x1b[2K\u2028{FORGED}",
        ),
        (f"no {TOKEN}", f"ERROR flyte: no {REDACTED}"),
        ("a" * 6000 + "b" * 6000, "ERROR flyte: " + "a" * 4998 + " … " + "b" * 4998),
    ],
)
@pytest.mark.parametrize("form", ["text", "json"])
def test_log_record_is_short_and_cannot_be_forged(form: Any, message: str, expected: str) -> None:
    settings = Settings().model_copy(update={"log_format": form})
    record = logging.makeLogRecord({"name": "flyte", "levelname": "ERROR", "msg": message})
    with remote.auth_metadata(("authorization", f"Bearer {TOKEN}")):
        line = LogFormatter(settings).format(record)
    if form == "text":
        assert line.partition(" ")[2] == expected.replace(r"\n", "\n", 1)
    else:
        assert line.isprintable()
        assert json.loads(line).items() >= {"level": "ERROR", "logger": "flyte"}.items()
        assert len(json.loads(line)["message"]) <= MAX_RECORD_CHARS


APP = """
import logging
from fastapi import APIRouter
from fastapi.testclient import TestClient
from tests.passthrough.support import build_app

router = APIRouter()

@router.get("/logs")
async def logs() -> None:
    for name in ("app.routers.mine", "flyte", "others"):
        logger = logging.getLogger(name)
        logger.debug("unimportant")
        logger.warning("one\\ntwo %s", "{token}")
    raise KeyError("{token}")

changed = dict(flyte_plaintext=True, flyte_endpoint="http://127.0.0.1:1", allow_anonymous=True)
app = build_app(router, log_level="DEBUG", **changed)
with TestClient(app, base_url="http://localhost") as client:
    headers = {{"Authorization": "Bearer {token}", "X-Request-ID": "mine"}}
    client.get("/logs?token=hidden", headers=headers)
"""
TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00 "


def test_all_loggers_have_same_format() -> None:
    output = run_python(APP.format(token=TOKEN)).stderr
    assert "hidden" not in output
    assert TOKEN not in output
    lines = output.splitlines()
    *records, last = [re.sub(TIME, "", line) for line in lines if re.match(TIME, line)]
    assert records == [
        "DEBUG app.routers.mine: unimportant",
        "WARNING app.routers.mine: one",
        "WARNING flyte: one",
        "WARNING others: one",
        "ERROR passthrough.http.problems: GET /logs: status 500, KeyError, request mine",
    ]
    line = r"INFO app\.access: GET /logs 500 [\d.]+ 0\.0 mine [0-9a-f]{12} -"
    assert re.fullmatch(line, last)
    others = [line for line in lines if not re.match(TIME, line)]
    assert others.count(f"    two {REDACTED}") == 3
    assert f"    KeyError: '{REDACTED}'" in others


LOOPS = """
import asyncio
import logging
from passthrough import Settings
from passthrough.http.logging_setup import set_up_logging

async def log(number: int) -> None:
    logging.getLogger("app").info("record %d", number)

set_up_logging(Settings())
for number in range(4):
    asyncio.run(log(number))
"""


def test_log_records_of_several_event_loops_are_written() -> None:
    lines = run_python(LOOPS).stderr.splitlines()
    assert [line.split()[-1] for line in lines] == ["0", "1", "2", "3"]


def test_existing_logging_configuration_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    own = logging.StreamHandler()
    monkeypatch.setattr(logging.getLogger(), "handlers", [own])
    set_up_logging(Settings())
    assert logging.getLogger().handlers == [own]
    assert own.formatter is None

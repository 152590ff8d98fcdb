"""The log shows where the app's own code has failed."""

import logging
import re

import pytest
from fastapi import APIRouter

from local_flyte import LocalFlyte
from local_flyte.testing import client_of, serving

from .support import build_app

router = APIRouter()


@router.get("/broken")
async def broken() -> None:
    try:
        int("x")
    except ValueError as error:
        raise KeyError("y") from error


@pytest.mark.parametrize("level", ["WARNING", "DEBUG"])
def test_frames_of_frameworks_are_shown_only_when_debugging(
    level: str, local_flyte: LocalFlyte, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(level, "passthrough")
    with serving(build_app(router)) as url, client_of(url, "alice") as alice:
        assert alice.get("/broken").status_code == 500
    (record,) = (found for found in caplog.records if found.levelno == logging.ERROR)
    told = record.getMessage()
    assert told.count("in broken") == 2  # where, and where the cause was raised
    assert "The above exception was the direct cause" in told
    frames = re.findall(r'File ".*/(starlette|fastapi|anyio)/', told)
    assert (frames != []) == (level == "DEBUG")

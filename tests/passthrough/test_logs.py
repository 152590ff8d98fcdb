"""What an app logs to the console, by itself and with an owner's own configuration."""

import os
import re
import subprocess
import sys

from .support import environment

APP = """
import asyncio, logging, sys
from fastapi import APIRouter
from fastapi.testclient import TestClient
from flyte import remote
from tests.passthrough.support import build_app

{configuration}
router = APIRouter()

@router.get("/logs")
async def logs() -> None:
    for name in ("app.routers.mine", "others"):
        logger = logging.getLogger(name)
        logger.debug("unimportant")
        logger.info("one\\ntwo")
        logger.info("said %s", "{token}")
        try:
            raise ValueError("three\\nfour")
        except ValueError:
            logger.exception("failed")
    raise KeyError("a bug")

changed = dict(flyte_plaintext=True, flyte_endpoint="http://127.0.0.1:1", allow_anonymous=True)
app = build_app(router, log_level="DEBUG", **changed)
with TestClient(app, base_url="http://localhost") as client:
    client.get("/logs", headers={{"Authorization": "Bearer {token}"}})
"""
TOKEN = "a-token-of-somebody"
TIME = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} "


def printed(configuration: str = "") -> list[str]:
    code = APP.format(configuration=configuration, token=TOKEN)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment({"PYTHONPATH": os.pathsep.join(sys.path)}),
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert TOKEN not in done.stdout
    return done.stderr.splitlines()


def test_what_an_app_says_is_shown_with_time_and_level_and_without_credentials() -> None:
    lines = printed()
    records = [re.sub(TIME, "", line) for line in lines if re.match(TIME, line)]
    assert records == [
        "DEBUG app.routers.mine: unimportant",
        "INFO app.routers.mine: one",
        "INFO app.routers.mine: (removed: it contains a credential)",
        "ERROR app.routers.mine: failed",
        "ERROR passthrough.http.problems: GET /logs: status 500, KeyError",
    ]
    others = [line for line in lines if not re.match(TIME, line)]
    assert {"    two", "    four"} <= {*others}
    trace = "Traceback (most recent call last):"  # of two own records, and of a problem
    assert [line for line in others if line.endswith(trace)] == [trace, trace, f"    {trace}"]
    assert TOKEN not in "".join(lines)


def test_an_owners_own_configuration_is_kept() -> None:
    own = """
handler = logging.StreamHandler()
handler.setFormatter(logging.Formatter("own %(message)s"))
logging.getLogger().addHandler(handler)
logging.getLogger("app").setLevel("ERROR")
"""
    lines = printed(own)
    assert "own failed" in lines
    assert not any("app.routers.mine" in line for line in lines)

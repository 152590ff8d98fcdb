"""What the app changes in the process around it: what `prepare_the_process` lists, and no more."""

import json
import re

import pytest
import uvicorn
from template import ROOT

from passthrough import UVICORN
from passthrough.application import prepare_the_process

from ..baking import PROJECT
from .support import run_python

COMPARE = """
import asyncio, gc, json, logging, os, signal, sys, threading
import flyte, flyte.remote
from tests.passthrough.support import build_app

def state():
    loop = asyncio.get_running_loop()
    return {
        "SIGINT and SIGTERM": [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)],
        "DO_NOT_TRACK": os.environ.get("DO_NOT_TRACK"),
        "other variables": {k: v for k, v in os.environ.items() if k != "DO_NOT_TRACK"},
        "garbage collector": (gc.get_threshold(), gc.get_freeze_count() > 0),
        "its callbacks": [*gc.callbacks],
        "loggers": [
            ([type(one) for one in logger.handlers], logger.level)
            for logger in map(logging.getLogger, (None, "app", "passthrough", "uvicorn", "flyte"))
        ],
        "record factory": logging.getLogRecordFactory(),
        "filters": [[*logging.getLogger(n).filters] for n in (None, "uvicorn.error", "asyncio")],
        "hooks": (sys.excepthook, sys.unraisablehook, threading.excepthook, sys.displayhook),
        "the loop": (loop.get_exception_handler(), loop.get_task_factory()),
        "policy": asyncio.get_event_loop_policy(),
        "threads": threading.active_count(),
        "flyte": flyte.remote.Run.get_report,
    }

async def main():
    changed = dict(flyte_plaintext=True, flyte_endpoint="http://127.0.0.1:1", allow_anonymous=True)
    before, app = state(), build_app(**changed)
    messages, answers = asyncio.Queue(), asyncio.Queue()
    messages.put_nowait({"type": "lifespan.startup"})
    task = asyncio.create_task(app({"type": "lifespan", "state": {}}, messages.get, answers.put))
    assert (await answers.get())["type"] == "lifespan.startup.complete"
    after = state()
    print(json.dumps([name for name in before if before[name] != after[name]]))
    messages.put_nowait({"type": "lifespan.shutdown"})
    await task

os.environ.pop("DO_NOT_TRACK", None)
asyncio.run(main())
"""


def test_the_app_changes_five_things_of_its_process() -> None:
    changed = ["SIGINT and SIGTERM", "DO_NOT_TRACK", "garbage collector", "loggers", "flyte"]
    assert json.loads(run_python(COMPARE).stdout) == changed
    listed = re.findall(r"^ +(\d)\. ", prepare_the_process.__doc__ or "", re.MULTILINE)
    assert listed == ["1", "2", "3", "4", "5"]


def test_every_way_to_start_the_app_has_the_same_options(monkeypatch: pytest.MonkeyPatch) -> None:
    in_environment = {f"UVICORN_{name}".upper(): str(value) for name, value in UVICORN.items()}
    for name, value in in_environment.items():
        monkeypatch.setenv(name, value)
    main = uvicorn.main.make_context("uvicorn", ["app.main:app"])
    assert {name: main.params[name] for name in UVICORN} == UVICORN
    ways = {"deployment.py": "**UVICORN", "local_flyte/__main__.py": '{f"UVICORN_{name}".upper():'}
    for file, use in ways.items():
        assert use in (ROOT / PROJECT / file).read_text("utf-8")

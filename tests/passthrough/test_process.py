"""What the app sets for the process around it, and how it is started."""

import pytest
import uvicorn
from template import ROOT

from passthrough import UVICORN

from ..baking import PROJECT
from .support import run_python

START = """
import os
os.environ |= {}
from passthrough.calls.make_safe import make_safe
make_safe()
print(os.environ["DO_NOT_TRACK"])
"""


def test_the_sdk_sends_no_usage_reports_unless_the_owner_turns_them_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DO_NOT_TRACK", raising=False)
    for owners, used in (({}, "1"), ({"DO_NOT_TRACK": "0"}, "0")):
        assert run_python(START.format(owners)).stdout.strip() == used


def test_every_way_to_start_the_app_has_the_same_options(monkeypatch: pytest.MonkeyPatch) -> None:
    in_environment = {f"UVICORN_{name}".upper(): str(value) for name, value in UVICORN.items()}
    for name, value in in_environment.items():
        monkeypatch.setenv(name, value)
    main = uvicorn.main.make_context("uvicorn", ["app.main:app"])
    assert {name: main.params[name] for name in UVICORN} == UVICORN
    ways = {"deployment.py": "**UVICORN", "local_flyte/__main__.py": '{f"UVICORN_{name}".upper():'}
    for file, use in ways.items():
        assert use in (ROOT / PROJECT / file).read_text("utf-8")

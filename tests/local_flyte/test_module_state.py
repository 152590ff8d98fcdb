"""The check for containers that functions of the app change."""

from pathlib import Path

from local_flyte.module_state import changed_containers

STORE = """
RUNS = {}
RATES: dict[str, float] = {}  # shared: the same for everybody
headers = {"Accept": "application/json"}
names = []

class Stats:
    seen = []

class Report(BaseModel):
    lines: list[str] = []
"""
USE = """
from . import store
from .store import RUNS, Stats

def change(report, names):
    RUNS["latest"] = 1
    store.RUNS["a"]["b"] += 1
    del RUNS["latest"]
    Stats.seen.append(1)
    report.lines.append("of this request")
    report.headers["of"] = "this response"
    names.append("of an argument")
    store.RATES["EUR"] = 1.0
    local = []
    local.append(store.names)
"""


def test_changed_module_state_is_reported_with_location(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/store.py").write_text(STORE, "utf-8")
    (tmp_path / "app/use.py").write_text(USE, "utf-8")
    lines = ["6: RUNS", "7: RUNS", "8: RUNS", "9: Stats.seen"]
    assert changed_containers(tmp_path / "app") == [f"app/use.py:{line}" for line in lines]

"""Typed values, sent over HTTP to a task in a process of its own."""

from typing import Any

import httpx

from app.routers import runs, tasks

from ..support import router_of

router = router_of(runs, tasks)
INPUTS: dict[str, Any] = {
    "drawing": {"texts": [1], "wait": 0.5, "shape": {"size": 1}, "width": 2},
    "paper": {"half": 0.5, "height": 2},
    "numbers": {"1": 2.7},
    "label": {"name": "a"},
}
ARRIVES = (
    "Drawing(width=2.0, wait=datetime.timedelta(microseconds=500000), shape=Circle(size=1),"
    " texts=[1])"
    " Paper(half=<Half.HALF: 0.5>, height=2.0, day=datetime.date(2024, 1, 2),"
    " secret=SecretStr('**********')) s3cret {1: 2} Label(name='a')"
)


def test_typed_inputs_reach_task_unchanged(alice: httpx.Client) -> None:
    run = alice.post("/tasks/tests.describe/runs?wait=100", json={"inputs": INPUTS})
    assert run.json()["outputs"] == {"o0": ARRIVES}


def test_input_with_secret_default_is_required(alice: httpx.Client) -> None:
    assert alice.get("/tasks/tests.unlock").json()["inputs"]["required"] == ["paper"]
    problem = alice.post("/tasks/tests.unlock/runs", json={"inputs": {}}).json()
    assert [error["location"] for error in problem["errors"]] == [["inputs", "paper"]]
    inputs = {"paper": {"half": 0.5}}  # the default of the field is in the code of the task
    run = alice.post("/tasks/tests.unlock/runs?wait=100", json={"inputs": inputs}).json()
    assert run["outputs"] == {"o0": "s3cret"}
    assert alice.post(f"/runs/{run['name']}/rerun").status_code == 201

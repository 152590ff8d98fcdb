"""Typed values, sent over HTTP and by an agent to a task in a process of its own."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from local_flyte import LocalFlyte
from local_flyte.testing import client_of, serving

from ..agents.calling import ACCEPT, app_with_agents, message

DRAWING = {"texts": [1], "wait": 0.5, "shape": {"size": 1}, "width": 2}
INPUTS: dict[str, Any] = {
    "drawing": DRAWING,
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
REFUSED: list[tuple[list[str], Any]] = [
    (["drawing", "shape"], {"size": 1.5}),
    (["drawing", "shape"], {"size": 1, "name": "a"}),
    (["drawing", "texts"], ["1"]),
    (["drawing", "wait"], 1e-7),
    (["paper", "day"], "2024-01-02"),
    (["paper", "secret"], "**********"),
    (["label"], {"size": 1.5, "name": "a"}),
]
Send = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture(scope="module")
def client(local_flyte: LocalFlyte) -> Iterator[httpx.Client]:
    with serving(app_with_agents()) as url, client_of(url, "alice") as client:
        yield client


@pytest.fixture(params=["HTTP", "MCP"])
def send(request: pytest.FixtureRequest, client: httpx.Client) -> Send:
    """Return a function that runs the task and waits for it; it returns the run or the problem."""

    def over_http(body: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any]
        answer = client.post("/tasks/tests.describe/runs?wait=100", json=body).json()
        return answer

    def over_mcp(body: dict[str, Any]) -> dict[str, Any]:
        arguments = {"name": "tests.describe", "wait": 100, "body": body}
        call = message("tools/call", name="run_task", arguments=arguments)
        answer: dict[str, Any] = client.post("/mcp", json=call, headers=ACCEPT).json()
        return dict(answer["result"]["structuredContent"])

    return over_http if request.param == "HTTP" else over_mcp


def test_typed_values_arrive_in_a_task(send: Send) -> None:
    assert send({"inputs": INPUTS})["outputs"] == {"o0": ARRIVES}


def test_input_that_task_reads_differently_is_refused(send: Send) -> None:
    for (name, *field), value in REFUSED:
        changed = {**INPUTS[name], field[0]: value} if field else value
        problem = send({"inputs": {**INPUTS, name: changed}})
        assert problem["status"] == 422
        assert [error["location"] for error in problem["errors"]] == [["inputs", name, *field]]


def test_input_with_secret_default_is_required(client: httpx.Client) -> None:
    assert client.get("/tasks/tests.unlock").json()["inputs"]["required"] == ["paper"]
    problem = client.post("/tasks/tests.unlock/runs", json={"inputs": {}}).json()
    assert [error["location"] for error in problem["errors"]] == [["inputs", "paper"]]
    inputs = {"paper": {"half": 0.5}}  # the default of the field is in the code of the task
    run = client.post("/tasks/tests.unlock/runs?wait=100", json={"inputs": inputs}).json()
    assert run["outputs"] == {"o0": "s3cret"}
    assert client.post(f"/runs/{run['name']}/rerun").status_code == 201

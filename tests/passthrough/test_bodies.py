"""Large bodies: how many values they may have, and that they wait for each other."""

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import flyte
import httpx
import pytest
from fastapi import APIRouter
from flyte import remote

from local_flyte import LocalFlyte, ReceivedCall
from local_flyte.testing import client_of, serving, wait_until
from passthrough.agents.serve import serve_agents
from passthrough.dependencies import Inputs, RequestBody
from passthrough.http import callers
from passthrough.limits import DEFAULTS

from .support import build_app

router = APIRouter()
JSON = {"Content-Type": "application/json"}
LARGE = {"values": ["x" * 80_000]}


class Given(RequestBody):
    values: list[Any]


@router.post("/same")
async def run_same(inputs: Inputs) -> Any:
    task = remote.Task.get("tests.same", auto_version="latest")
    run = await flyte.run.aio(task, **inputs)
    await run.wait.aio(quiet=True)
    return {
        "inputs": dict(await run.inputs.aio()),
        "outputs": (await run.outputs.aio()).named_outputs,
    }


@router.post("/length")
async def length(given: Given) -> int:
    return len(given.values)


class Held:
    """Requests that are in an endpoint until they are let go."""

    now = most = 0
    may_leave = threading.Event()


@router.post("/held")
async def hold(given: Given) -> int:
    Held.now += 1
    Held.most = max(Held.now, Held.most)
    await asyncio.to_thread(Held.may_leave.wait)
    Held.now -= 1
    return len(given.values)


@pytest.fixture
def held() -> Iterator[type[Held]]:
    Held.now = Held.most = 0
    Held.may_leave.clear()
    yield Held
    Held.may_leave.set()


def test_a_list_of_100000_numbers_is_an_input_and_an_output(alice: httpx.Client) -> None:
    numbers = [*range(100_000)]
    assert len(json.dumps({"values": numbers})) < 2**20
    answer = alice.post("/same", json={"values": numbers})
    assert answer.json() == {"inputs": {"values": numbers}, "outputs": {"o0": numbers}}


def test_too_many_values_are_refused_before_flyte_is_asked(
    url: str, received: Any, local_flyte: LocalFlyte
) -> None:
    body = '{"values": [' + ",".join(["[0]"] * 200_000) + "]}"
    with client_of(url, "alice") as client:
        client.headers["Authorization"] = "Bearer invented"
        for sent in (body.encode(), (part for part in [body.encode()])):
            answer = client.post(
                "/same", content=sent, headers={"Content-Type": "application/JSON"}
            )
            assert (answer.status_code, answer.json()["detail"]) == (
                413,
                "JSON may have up to 250,000 values",
            )
    calls: list[ReceivedCall] = received()
    assert calls == []


@pytest.mark.parametrize(
    "values",
    [
        [1] * (DEFAULTS.values - 10),
        ['",[{' * 100_000, "\\" * 100_000, '\\"' * 50_000],
        ["x" * 1_000_000],
    ],
    ids=["numbers", "signs in texts", "a text"],
)
def test_what_stands_in_texts_does_not_count(alice: httpx.Client, values: list[Any]) -> None:
    assert alice.post("/length", json={"values": values}).json() == len(values)


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ('{"values": [1e400]}', "a number is too large for JSON"),
        ('{"values": [-1e400, {}]}', "a number is too large for JSON"),
        ('{"values": [Infinity]}', "a number is too large for JSON"),
        ('{"values": ' + "[" * 60 + "]" * 60 + "}", "nested up to 40 levels"),
    ],
)
def test_what_json_does_not_have_is_refused(alice: httpx.Client, body: str, wrong: str) -> None:
    answer = alice.post("/length", content=body, headers=JSON)
    assert answer.status_code == 422
    assert wrong in answer.json()["errors"][0]["detail"]


def test_two_large_bodies_are_held_at_once_and_small_ones_do_not_wait(
    alice: httpx.Client, held: type[Held], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "TURN_SECONDS", 60.0)
    with ThreadPoolExecutor(4) as threads:
        large = [threads.submit(alice.post, "/held", json=LARGE) for _ in range(4)]
        wait_until(lambda: held.now == 2)
        for _ in range(20):
            assert alice.post("/length", json={"values": []}).json() == 0
        assert held.now == 2
        held.may_leave.set()
        assert [answer.result().json() for answer in large] == [1] * 4
    assert held.most == 2


def test_one_that_takes_long_lets_the_next_in(
    alice: httpx.Client, held: type[Held], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "TURN_SECONDS", 0.01)
    with ThreadPoolExecutor(4) as threads:
        large = [threads.submit(alice.post, "/held", json=LARGE) for _ in range(4)]
        wait_until(lambda: held.now == 4)
        held.may_leave.set()
        assert [answer.result().json() for answer in large] == [1] * 4
    monkeypatch.undo()
    assert alice.post("/length", json=LARGE).json() == 1


def test_what_an_agent_sends_is_one_body_on_its_way_to_the_endpoint(
    local_flyte: LocalFlyte,
) -> None:
    app = build_app(router)
    serve_agents(app)
    call = {"name": "length", "arguments": LARGE}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    accept = {"Accept": "application/json, text/event-stream"}
    with serving(app) as url, client_of(url, "alice") as alice, ThreadPoolExecutor(4) as threads:
        sent = [threads.submit(alice.post, "/mcp", json=message, headers=accept) for _ in "abcd"]
        results = [answer.result().json()["result"] for answer in sent]
    assert [result["content"][0]["text"] for result in results] == ["1"] * 4

"""Values are JSON in the SDK's own calls; large ones are translated in turn."""

import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import flyte
import httpx
import msgpack
import pytest
from fastapi import APIRouter
from flyte import remote

from local_flyte import LocalFlyte
from local_flyte.testing import client_of, serving, wait_until
from passthrough.calls import json_values, turns
from passthrough.calls.json_values import translated
from passthrough.dependencies import Inputs
from passthrough.limits import DEFAULTS, current_limits, limits
from passthrough.values.budget import Budget, TooComplexError
from passthrough.values.inputs import to_literals
from passthrough.values.outputs import to_json

from .. import naive_endpoints
from ..support import build_app
from ..values.hostile import binary

router = APIRouter()
router.include_router(naive_endpoints.router)


@router.post("/take")
async def run_take(inputs: Inputs) -> dict[str, Any]:
    task = remote.Task.get("tests.take", auto_version="latest")
    run = await flyte.run.aio(task, **inputs)
    return dict(await run.inputs.aio())


@router.post("/take-in-thread")
def run_take_in_thread(inputs: Inputs) -> str:
    task = remote.Task.get("tests.take", auto_version="latest")
    return str(flyte.run(task, **inputs).name)


def test_large_inputs_are_translated_one_of_a_caller_at_a_time_and_two_in_all(
    alice: httpx.Client, bob: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, begun = list[Any](), list[int]()
    may_end = defaultdict[int, threading.Semaphore](lambda: threading.Semaphore(0))

    def held(values: dict[str, Any], *more: Any) -> Any:
        asked.append(values)
        literals = to_literals(values, *more)  # raises an error if it is too much for the loop
        begun.append(number := values["values"][0])
        may_end[number].acquire()
        return literals

    monkeypatch.setattr(turns, "PLACE_SECONDS", 3600.0)
    monkeypatch.setattr(json_values, "to_literals", held)
    with (
        client_of(str(alice.base_url), "victor") as victor,
        ThreadPoolExecutor(5) as threads,
        ExitStack() as at_the_end,
    ):
        for number in range(5):
            at_the_end.callback(may_end[number].release, 5)
        answers = []
        requests = [(alice, "/take", 0), (alice, "/take-in-thread", 1), (alice, "/take", 2)]
        for client, path, number in (*requests, (bob, "/take", 3), (victor, "/take", 4)):
            body = {"values": [number] * 5_000}
            answers.append(threads.submit(client.post, path, json=body))
            wait_until(lambda: len({id(values) for values in asked}) == len(answers), 60)
        for number, expected in [(0, [0, 3]), (3, [0, 3, 4]), (1, [0, 3, 4, 1])]:
            wait_until(lambda: begun == expected, 60)  # noqa: B023
            may_end[number].release()
        at_the_end.close()
        assert [answer.result().status_code for answer in answers] == [200] * 4 + [403]


def test_a_thread_that_waits_to_translate_gets_an_answer_in_time(
    local_flyte: LocalFlyte, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def held(values: dict[str, Any], *more: Any) -> Any:
        literals = to_literals(values, *more)
        begun.set()
        may_end.wait()
        return literals

    monkeypatch.setattr(json_values, "to_literals", held)
    with (
        serving(build_app(router, flyte_timeout=1.0)) as url,
        client_of(url, "alice") as alice,
        ThreadPoolExecutor(1) as threads,
        ExitStack() as at_the_end,
    ):
        at_the_end.callback(may_end.set)
        body = {"values": [1] * 5_000}
        threads.submit(alice.post, "/take-in-thread", json=body)
        assert begun.wait(60)
        assert alice.post("/take-in-thread", json=body).status_code == 504


@pytest.mark.anyio
async def test_large_values_are_translated_in_a_thread_with_the_limits_of_the_app() -> None:
    strict = replace(DEFAULTS, levels=3)
    token = current_limits.set(strict)
    for size, is_here in ((60_000, True), (2**20, False)):
        literals = [("a", binary(msgpack.packb("a" * size)))]

        def shown(budget: Budget, literals: Any = literals) -> Any:
            return to_json(literals, budget), threading.get_ident(), limits()

        made, thread, found = await translated(shown)
        assert (made, found) == ({"a": "a" * size}, strict)
        assert (thread == threading.get_ident()) == is_here
    with pytest.raises(TooComplexError):
        await translated(lambda budget: budget.spend(4))
    current_limits.reset(token)


def test_inputs_and_outputs_are_json_with_their_declared_names(alice: httpx.Client) -> None:
    run = alice.post("/tasks/tests.split/run", json={"text": "Ada"}).json()
    assert run["outputs"] == {"o0": 3, "o1": "A"}
    data = {"inputs": {"text": "Ada"}, "outputs": [3, "A"]}  # Flyte sorts them by name
    assert alice.get(f"/runs/{run['name']}/io").json() == data

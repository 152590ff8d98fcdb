"""Values are JSON in the SDK's own calls; large ones are translated in a thread."""

import asyncio
import threading
from typing import Any

import httpx
import msgpack
import pytest

from local_flyte.testing import wait_until
from passthrough.calls.json_values import MAX_NODES_IN_LOOP, translated
from passthrough.limits import (
    CHARS_PER_NODE,
    Budget,
    Limits,
    TooComplexError,
    current_limits,
    limits,
)
from passthrough.values.outputs import to_json

from .. import naive_endpoints
from ..support import AccessLog, begin_request, connected, head, router_of
from ..values.hostile import binary

router = router_of(naive_endpoints)


@pytest.mark.anyio
async def test_large_values_are_converted_in_worker_thread() -> None:
    strict = Limits(max_depth=3)
    token = current_limits.set(strict)
    for size, is_here in ((10_000, True), (2**20, False)):
        literals = [("a", binary(msgpack.packb("a" * size)))]

        def shown(budget: Budget, literals: Any = literals) -> Any:
            return to_json(literals, budget), threading.get_ident(), limits()

        made, thread, found = await translated(shown)
        assert (made, found) == ({"a": "a" * size}, strict)
        assert (thread == threading.get_ident()) == is_here
    with pytest.raises(TooComplexError):
        await translated(lambda budget: budget.spend(4))
    current_limits.reset(token)


def convert_in_thread(budget: Budget) -> None:
    budget.spend(0, CHARS_PER_NODE * MAX_NODES_IN_LOOP)


@pytest.mark.anyio
async def test_conversion_in_thread_waits_for_memory_slot() -> None:
    first = begin_request()
    await first.slot.acquire(first.deadline)
    second = begin_request()
    waiting = asyncio.create_task(translated(convert_in_thread))
    await translated(lambda budget: budget.spend(0))  # a short conversion needs no slot
    await asyncio.sleep(0.1)
    assert not waiting.done()
    first.end()
    await asyncio.wait_for(waiting, 10)
    second.end()


has_begun, may_end = threading.Event(), threading.Event()


@router.get("/long-conversion")
async def long_conversion() -> None:
    def convert(budget: Budget) -> None:
        convert_in_thread(budget)
        has_begun.set()
        while not may_end.wait(0.01):
            budget.spend(0)

    await translated(convert)


def test_conversion_stops_when_client_disconnects(url: str, access_log: AccessLog) -> None:
    try:
        with connected(url, head("/long-conversion")):
            assert has_begun.wait(60)
        wait_until(lambda: [line["status"] for line in access_log()] == [499], 30)
    finally:
        may_end.set()


def test_inputs_and_outputs_are_json_by_name(alice: httpx.Client) -> None:
    run = alice.post("/tasks/tests.split/run", json={"text": "Ada"}).json()
    assert run["outputs"] == {"o0": 3, "o1": "A"}
    data = {"inputs": {"text": "Ada"}, "outputs": [3, "A"]}  # Flyte sorts them by name
    assert alice.get(f"/runs/{run['name']}/io").json() == data

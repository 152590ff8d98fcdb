"""Callers alternate where few requests have a turn at once."""

import asyncio

import pytest

from passthrough.calls.turns import Turns

pytestmark = pytest.mark.anyio


async def test_a_caller_with_many_requests_delays_another_by_one() -> None:
    turns, order = Turns(), list[str]()

    async def work(caller: str) -> None:
        end_turn = await turns.begin(1, caller)
        order.append(caller)
        await asyncio.sleep(0)
        end_turn()

    async with asyncio.TaskGroup() as group:
        for _ in range(50):
            group.create_task(work("alice"))
        await asyncio.sleep(0)
        group.create_task(work("bob"))
    assert order.index("bob") <= 3
    assert len(order) == 51


async def test_who_is_cancelled_while_waiting_takes_no_turn() -> None:
    turns = Turns()
    end_turn = await turns.begin(1, "alice")
    waiting = [asyncio.create_task(turns.begin(1, name)) for name in ("alice", "alice", "bob")]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    end_turn()
    end_turn()  # again, which is one too many
    await asyncio.sleep(0)
    first = await turns.begin(1, "bob")
    second = asyncio.create_task(turns.begin(1, "carol"))
    await asyncio.sleep(0)
    assert not second.done()
    first()
    (await second)()

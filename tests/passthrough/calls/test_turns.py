"""Whose turn it is to hold something large."""

import asyncio
import random
import threading

import pyqwest
import pytest

from passthrough.calls import turns
from passthrough.calls.json_values import IN_THE_LOOP, translated
from passthrough.calls.request_state import this_request
from passthrough.calls.sessions import _whole
from passthrough.extras.reading import call_each
from passthrough.limits import Budget

from ..support import request_of

pytestmark = pytest.mark.anyio


class Places:
    """Counts who holds something large."""

    def __init__(self) -> None:
        self.held = list[str]()
        self.order = list[str]()

    async def hold(self, caller: str) -> None:
        assert len({*self.held, caller}) <= turns.PLACES
        self.held.append(caller)
        self.order.append(caller)
        for _ in range(5):
            await asyncio.sleep(0)
        self.held.remove(caller)


async def test_whatever_requests_do_and_whoever_leaves_all_end_and_the_places_are_free() -> None:
    chance, places = random.Random(1), Places()

    async def call(caller: str, *, is_large: bool) -> None:
        await asyncio.sleep(0)
        if is_large:
            await this_request().turn.begin()
            await places.hold(caller)

    async def request(caller: str) -> None:
        state = request_of(caller)
        try:
            for _ in range(3):
                await call(caller, is_large=chance.random() < 0.5)
                sizes = [chance.random() < 0.5 for _ in range(4)]
                await call_each(lambda is_large: call(caller, is_large=is_large), sizes)
                if chance.random() < 0.3:
                    state.turn.let_go()
        finally:
            state.end()

    async def leave(task: asyncio.Task[None]) -> None:
        for _ in range(chance.randrange(100)):
            await asyncio.sleep(0)
        task.cancel()

    async with asyncio.timeout(60):
        requests = [asyncio.create_task(request(chance.choice("abcdef"))) for _ in range(300)]
        leaving = [asyncio.create_task(leave(task)) for task in requests[::3]]
        await asyncio.gather(*requests, *leaving, return_exceptions=True)
        free = [request_of(caller) for caller in "ab"]
        for state in free:
            await state.turn.begin()
            state.end()


async def test_a_caller_with_many_requests_delays_another_by_one() -> None:
    places = Places()

    async def work(caller: str) -> None:
        state = request_of(caller)
        try:
            await state.turn.begin()
            await places.hold(caller)
        finally:
            state.end()

    async with asyncio.TaskGroup() as group:
        alices = [group.create_task(work("alice")) for _ in range(50)]
        await asyncio.sleep(0)
        group.create_task(work("bob"))
        alices[1].cancel()  # while it waits
    assert places.order.index("bob") <= 1
    assert len(places.order) == 50


async def test_a_place_is_kept_while_a_thread_translates_even_if_the_client_has_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "PLACE_SECONDS", 0.01)
    begun, may_end = threading.Semaphore(0), threading.Event()

    def held(budget: Budget) -> None:
        for _ in range(IN_THE_LOOP + 1):
            budget.spend(0)
        begun.release()
        may_end.wait()

    async with asyncio.TaskGroup() as group:
        for number in range(turns.PLACES):
            state = request_of(f"caller {number}")
            group.create_task(translated(held))
            assert await asyncio.to_thread(begun.acquire, timeout=10)
            state.end()
        waiting = group.create_task(request_of("another").turn.begin())
        await asyncio.sleep(0.1)
        is_kept = not waiting.done()
        may_end.set()
    assert is_kept


async def test_of_messages_below_a_large_one_a_caller_has_one_whatever_places_are_free() -> None:
    for number in range(turns.PLACES):
        await request_of(f"caller {number}").turn.begin()
    first, second = (request_of("one") for _ in range(2))
    async with asyncio.timeout(None) as limit:
        await first.begin_turn(turns.LARGE_BYTES, limit)
        await second.begin_turn(turns.LINE_BYTES, limit)
        waiting = asyncio.create_task(second.begin_turn(turns.LINE_BYTES + 1, limit))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        first.turn.let_go()
        await waiting


async def test_waiting_for_the_turn_takes_none_of_flytes_time() -> None:
    first, second = (request_of("alice") for _ in range(2))
    await first.turn.begin()
    loop, large = asyncio.get_running_loop(), bytes(turns.LARGE_BYTES + 1)
    loop.call_soon(loop.call_later, 0.2, first.turn.let_go)  # once the second one waits
    async with asyncio.timeout(0.1) as limit:
        assert await _whole(pyqwest.Response(status=200, content=large), limit) == large
    assert second.seconds < -0.1
    second.end()

"""How many calls a caller's lists make at once, and whose turn it is to hold something large."""

import asyncio
import random
from collections.abc import AsyncGenerator

import pytest

from passthrough.calls import turns
from passthrough.calls.request_state import RequestState, call_limit, current_request, this_request
from passthrough.extras.reading import call_each, take
from passthrough.limits import DEFAULTS

pytestmark = pytest.mark.anyio
MOST = DEFAULTS.calls_at_once


class Calls:
    """Calls that take a while, counted."""

    def __init__(self) -> None:
        self.open = self.most = self.begun = 0

    async def __call__(self, number: int) -> int:
        self.open, self.begun = self.open + 1, self.begun + 1
        self.most = max(self.most, self.open)
        try:
            for _ in range(5):
                await asyncio.sleep(0)
            return [*range(1000)].index(number)
        finally:
            self.open -= 1


def request_of(caller: str) -> RequestState:
    """Begin a request, in the current task."""
    state = RequestState()
    state.turn.caller = caller
    current_request.set(state)
    return state


async def test_a_callers_lists_share_one_limit_and_do_not_stop_anothers() -> None:
    async def listing(caller: str, calls: Calls) -> list[int]:
        state = request_of(caller)
        try:
            return await call_each(calls, range(300))
        finally:
            state.end()

    alices, bobs = Calls(), Calls()
    lists = [listing("alice", alices) for _ in range(5)] + [listing("bob", bobs)]
    tasks = [asyncio.create_task(each) for each in lists]
    assert await asyncio.gather(*tasks) == [[*range(300)]] * 6
    assert alices.most == bobs.most == MOST
    assert bobs.begun == 300


async def test_a_list_that_fails_or_is_cancelled_gives_its_turns_back() -> None:
    for _ in range(2 * MOST):
        calls = Calls()
        with pytest.raises(ValueError, match="-1"):
            await call_each(calls, [-1, *range(1000)])
        assert calls.begun <= 2 * MOST
    left = asyncio.create_task(call_each(calls, range(1000)))
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.gather(left, return_exceptions=True)
    assert await call_each(Calls(), range(3)) == [0, 1, 2]


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


async def test_a_place_is_passed_on_and_the_line_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PLACE_SECONDS", 0.01)
    for number in range(2 * turns.PLACES):  # which never let go
        await request_of(f"caller {number}").turn.begin()
    first, second = (request_of("one") for _ in range(2))
    await first.turn.begin()
    waiting = asyncio.create_task(second.turn.begin())
    await asyncio.sleep(0.1)
    assert not waiting.done()
    first.turn.let_go()
    await waiting


async def test_waiting_for_the_turn_takes_none_of_flytes_time() -> None:
    first, second = (request_of("alice") for _ in range(2))
    await first.turn.begin()
    asyncio.get_running_loop().call_later(0.2, first.turn.let_go)
    async with asyncio.timeout(0.1) as limit:
        call_limit.set(limit)
        await second.begin_turn()
    assert second.seconds < -0.1


async def test_as_many_entries_are_taken_as_are_asked_for_and_no_further_one_is_read() -> None:
    async def entries() -> AsyncGenerator[int]:
        for number in range(count + skip):
            yield number
        pytest.fail("a further entry was read")

    for count, skip in ((0, 0), (2, 0), (2, 3)):
        assert await take(entries(), count, skip) == [*range(skip, skip + count)]

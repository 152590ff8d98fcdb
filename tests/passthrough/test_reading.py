"""How many calls the lists of a process make at once, and whose turn it is."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from passthrough.calls.request_state import (
    LARGE_BYTES,
    Received,
    RequestState,
    Sender,
    Turns,
    current_request,
    this_request,
)
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


async def test_all_lists_share_one_limit() -> None:
    calls = Calls()
    lists = [call_each(calls, range(300)) for _ in range(5)]
    assert await asyncio.gather(*lists) == [[*range(300)]] * 5
    assert calls.most == MOST


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


async def test_lists_of_large_messages_do_not_wait_for_each_other_for_ever() -> None:
    async def read(number: int) -> int:
        async with this_request().received.turn(LARGE_BYTES + 1):
            await asyncio.sleep(0)
        return number

    async def listing(caller: str) -> list[int]:
        calls = RequestState()
        calls.sender.short_hash = caller
        current_request.set(calls)
        await read(0)  # a page of the list
        return await call_each(read, range(3 * MOST))

    async with asyncio.timeout(60):
        lists = [asyncio.create_task(listing(caller)) for caller in "abcd"]
        assert await asyncio.gather(*lists) == [[*range(3 * MOST)]] * 4


async def test_a_caller_with_many_requests_delays_another_by_one() -> None:
    turns, order, others = Turns(), list[str](), asyncio.Lock()

    async def work(caller: str) -> None:
        end_turn = await turns.begin(1, caller)
        assert not others.locked()
        async with others:
            order.append(caller)
            await asyncio.sleep(0)
        end_turn()
        end_turn()  # once too often, which gives nobody a turn

    async with asyncio.TaskGroup() as group:
        alices = [group.create_task(work("alice")) for _ in range(50)]
        await asyncio.sleep(0)
        group.create_task(work("bob"))
        alices[1].cancel()  # while it waits
    assert order.index("bob") <= 3
    assert len(order) == 50


async def test_large_messages_are_read_one_after_the_other_whatever_calls_begin() -> None:
    reading = asyncio.Lock()

    async def read(received: Received) -> None:
        async with received.turn(LARGE_BYTES + 1):
            assert not reading.locked()
            async with reading:
                received.release()  # as a further call of the request does when it begins
                for _ in range(10):
                    await asyncio.sleep(0)

    async def request(caller: str) -> None:
        received = Received(Sender(short_hash=caller))
        await asyncio.gather(*(read(received) for _ in range(3)))
        received.end()

    await asyncio.gather(request("alice"), request("bob"))


async def test_as_many_entries_are_taken_as_are_asked_for_and_no_further_one_is_read() -> None:
    async def entries() -> AsyncGenerator[int]:
        for number in range(count + skip):
            yield number
        pytest.fail("a further entry was read")

    for count, skip in ((0, 0), (2, 0), (2, 3)):
        assert await take(entries(), count, skip) == [*range(skip, skip + count)]

"""Async generators that a request has abandoned, and that the garbage collector finds later.

If a client does not read and then leaves, the server abandons a generator at its ``yield``. Its
``finally`` runs when the collector finds it, while somebody else is served.
"""

import asyncio
import gc
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvloop
from starlette.types import Receive, Scope, Send

from .harness import ALICE, DEADLINE, Class, get, metadata, request, tell

BOB = (b"authorization", b"Bearer bob")
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


async def seen_in_clean_up(make: Class) -> dict[str, str]:
    """Abandon a generator of alice's; return what its clean-up sees, which is due for bob."""
    seen = asyncio.Future[dict[str, str]]()
    hooks = set()

    async def chunks(cycle: list[Any]) -> AsyncIterator[bytes]:
        try:
            while cycle:
                yield b"x"
        finally:
            await asyncio.sleep(0)  # it may also call Flyte
            seen.set_result(metadata())

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        hooks.add(sys.get_asyncgen_hooks().finalizer)
        if scope["path"] == "/collect":
            gc.collect()
            await seen
        else:
            cycle: list[Any] = []
            cycle.append(chunks(cycle))  # only the collector can find it
            await anext(cycle[0])
        await tell(scope, receive, send)

    async with asyncio.timeout(DEADLINE):
        await request(make(app), get(ALICE))
        collecting = await request(make(app), get(BOB, path="/collect"))
    assert collecting.credentials == {"authorization": "Bearer bob"}
    assert len(hooks) == 1  # not one around another
    return seen.result()


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_abandoned_generator_closes_without_credentials(either: Class, loop: Any) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        for _ in range(2):  # a loop sets its own hook whenever it starts to run
            assert runner.run(seen_in_clean_up(either)) == {}

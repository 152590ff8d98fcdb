"""Tests of async generators that a request has abandoned.

If a client stops reading and disconnects, the server abandons the generator at a ``yield``. The
``finally`` block runs at garbage collection, perhaps during a request of another caller.
"""

import asyncio
import gc
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvloop
from starlette.types import Receive, Scope, Send

from .harness import ALICE, DEADLINE, Class, echo_credentials, get, metadata, request

BOB = (b"authorization", b"Bearer bob")
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


async def credentials_in_clean_up(make: Class) -> dict[str, str]:
    """Abandon a generator of alice; return the credentials in the clean-up during bob's request."""
    credentials = asyncio.Future[dict[str, str]]()
    hooks = set()

    async def chunks(cycle: list[Any]) -> AsyncIterator[bytes]:
        try:
            while cycle:
                yield b"x"
        finally:
            await asyncio.sleep(0)  # a clean-up may call Flyte
            credentials.set_result(metadata())

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        hooks.add(sys.get_asyncgen_hooks().finalizer)
        if scope["path"] == "/collect":
            gc.collect()
            await credentials
        else:
            cycle: list[Any] = []
            cycle.append(chunks(cycle))  # only garbage collection frees it
            await anext(cycle[0])
        await echo_credentials(scope, receive, send)

    async with asyncio.timeout(DEADLINE):
        await request(make(app), get(ALICE))
        collecting = await request(make(app), get(BOB, path="/collect"))
    assert collecting.credentials == {"authorization": "Bearer bob"}
    assert len(hooks) == 1  # hooks are not nested
    return credentials.result()


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_abandoned_generator_closes_without_credentials(either: Class, loop: Any) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        for _ in range(2):  # a loop sets a new hook at each start
            assert runner.run(credentials_in_clean_up(either)) == {}

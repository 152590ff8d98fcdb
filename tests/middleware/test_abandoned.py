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

from .harness import ALICE, DEADLINE, Class, get, import_copy, metadata, request, tell

BOB = (b"authorization", b"Bearer bob")
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


async def seen_in_clean_up(*classes: Class) -> list[dict[str, str]]:
    """Abandon a generator of alice's in each class; return what their clean-up sees.

    It is due while bob is served.
    """
    seen: list[dict[str, str]] = []
    all_seen = asyncio.Event()

    async def chunks(cycle: list[Any]) -> AsyncIterator[bytes]:
        try:
            while cycle:
                yield b"x"
        finally:
            await asyncio.sleep(0)  # it may also call Flyte
            seen.append(metadata())
            if len(seen) == len(classes):
                all_seen.set()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/collect":
            gc.collect()
            await all_seen.wait()
        else:
            cycle: list[Any] = []
            cycle.append(chunks(cycle))  # only the collector can find it
            await anext(cycle[0])
        await tell(scope, receive, send)

    async with asyncio.timeout(DEADLINE):
        for make in classes:
            await request(make(app), get(ALICE))
        collecting = await request(classes[0](app), get(BOB, path="/collect"))
    assert collecting.credentials == {"authorization": "Bearer bob"}
    return seen


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_clean_up_after_an_abandoned_stream_has_no_credentials(either: Class, loop: Any) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        for _ in range(2):  # a loop sets its own hook whenever it starts to run
            assert runner.run(seen_in_clean_up(either)) == [{}]


async def test_copies_of_the_file_in_one_process_share_one_hook(cls: Class) -> None:
    copies = [import_copy(name) for name in ("one_copy", "another_copy")]
    classes = [cls, *(copy.FastAPIPassthroughAuthMiddleware for copy in copies)]
    hooks = set()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        hooks.add(sys.get_asyncgen_hooks().finalizer)
        await tell(scope, receive, send)

    for make in classes * 2:
        await request(make(app), get(ALICE))
    assert len(hooks) == 1
    assert await seen_in_clean_up(*classes) == [{}] * 3

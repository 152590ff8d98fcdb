"""Async generators that a request has abandoned, and that the garbage collector finds later.

If a client does not read and then leaves, the server abandons a generator at its ``yield``. Its
``finally`` runs when the collector finds it, while somebody else is served.
"""

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvloop
from starlette.types import Receive, Scope, Send

from .harness import ALICE, DEADLINE, Class, Probe, get, import_copy, request, who

BOB = (b"authorization", b"Bearer bob")
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


async def abandon(clean_up: Callable[[], None]) -> None:
    """Leave a generator that only the collector can find."""

    async def chunks() -> AsyncIterator[bytes]:
        try:
            while cycle:
                yield b"x"
        finally:
            await asyncio.sleep(0)  # it may also call Flyte
            clean_up()

    cycle: list[Any] = []
    cycle.append(chunks())
    await anext(cycle[0])


async def who_cleans_up(*classes: Class) -> list[str]:
    """Return as whom the clean-up of alice's generators runs: it is due while bob is served."""
    cleaned_up_by: list[str] = []
    all_cleaned_up = asyncio.Event()

    def clean_up() -> None:
        cleaned_up_by.append(who())
        if len(cleaned_up_by) == len(classes):
            all_cleaned_up.set()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/collect":
            gc.collect()
            await all_cleaned_up.wait()
            assert who() == "Bearer bob"
        else:
            await abandon(clean_up)
        await Probe()(scope, receive, send)

    async with asyncio.timeout(DEADLINE):
        for make in classes:
            await request(make(app), get(ALICE))
        await request(classes[0](app), get(BOB, path="/collect"))
    return cleaned_up_by


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_clean_up_after_an_abandoned_stream_has_no_credentials(either: Class, loop: Any) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        for _ in range(2):  # a loop sets its own hook whenever it starts to run
            assert runner.run(who_cleans_up(either)) == ["nobody"]


def test_copies_of_the_file_in_one_process_share_one_hook(cls: Class) -> None:
    copies = [import_copy(name) for name in ("one_copy", "another_copy")]
    classes = [cls, *(copy.FastAPIPassthroughAuthMiddleware for copy in copies)]
    hooks = set()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        hooks.add(sys.get_asyncgen_hooks().finalizer)
        await Probe()(scope, receive, send)

    async def run() -> list[str]:
        for make in classes * 2:
            await request(make(app), get(ALICE))
        return await who_cleans_up(*classes)

    assert asyncio.run(run()) == ["nobody"] * 3
    assert len(hooks) == 1

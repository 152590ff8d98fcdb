"""The garbage collector runs in the middle of anybody's request, and leaves it as it was.

If a client does not read and then leaves, the server abandons a generator at its ``yield``. Its
``finally`` runs when the collector finds it, in the context of the current request, and so does
``__del__``: they must find nobody's credentials.
"""

import asyncio
import contextvars
import functools
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from flyte import remote
from starlette.types import ASGIApp, Receive, Scope, Send

from .harness import (
    ALICE,
    DEADLINE,
    IS_ALICE,
    Class,
    Probe,
    SdkMiddleware,
    get,
    import_copy,
    metadata,
    request,
    sdk_fails,
    who,
)

BOB = (b"authorization", b"Bearer bob")
HOOK = "_finalise_as_nobody"


@pytest.fixture(scope="module", autouse=True)
def small_heap() -> Iterator[None]:
    """Make collections fast: they skip all objects that exist already."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


class Cycle:
    """An object that only the collector can finalise, with a finaliser that does something."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self.act = act
        self.itself = self

    def __del__(self) -> None:
        self.act()


async def abandon_generator(clean_up: Callable[[], None]) -> None:
    def chunks() -> Iterator[bytes]:
        try:
            while cycle:
                yield b"x"
        finally:
            clean_up()

    cycle: list[Any] = []
    cycle.append(chunks())
    next(cycle[0])


async def abandon_async_generator(clean_up: Callable[[], None]) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        try:
            while cycle:
                yield b"x"
        finally:
            clean_up()

    cycle: list[Any] = []
    cycle.append(chunks())
    await anext(cycle[0])


@pytest.fixture
def collector_on_demand(either_class: Class) -> Iterator[None]:
    """Collect only when the app requests it; without our hook for the SDK's class."""
    hooks = list(gc.callbacks)
    if either_class is SdkMiddleware:
        gc.callbacks[:] = [hook for hook in hooks if getattr(hook, "__name__", "") != HOOK]
    gc.disable()
    yield
    gc.enable()
    gc.callbacks[:] = hooks


@sdk_fails("clean-up after one caller's stream calls Flyte as another caller")
@pytest.mark.usefixtures("collector_on_demand")
@pytest.mark.parametrize("abandon", [abandon_generator, abandon_async_generator])
def test_clean_up_after_an_abandoned_stream_has_no_credentials(
    either_class: Class, abandon: Any
) -> None:
    cleaned_up_by: list[str] = []
    cleaned_up = asyncio.Event()

    def clean_up() -> None:
        cleaned_up_by.append(who())
        cleaned_up.set()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/collect":
            gc.collect()
            await cleaned_up.wait()
            assert who() == "Bearer bob"
        else:
            await abandon(clean_up)
        await Probe()(scope, receive, send)

    async def run() -> None:
        async with asyncio.timeout(DEADLINE):
            await request(either_class(app), get(ALICE))
            await request(either_class(app), get(BOB, path="/collect"))

    asyncio.run(run())
    assert cleaned_up_by == ["nobody"]


def serve_alice(make: Class, app: ASGIApp) -> None:
    asyncio.run(request(make(app), get(ALICE)))


def test_a_collection_does_not_change_the_current_requests_credentials(ours: Class) -> None:
    seen: dict[str, Any] = {}

    def act() -> None:
        seen["finaliser"] = metadata()
        with remote.auth_metadata(("x-own", "1")):
            seen["within"] = metadata()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        gc.collect()
        Cycle(act)
        gc.collect()
        seen["request"] = metadata()

    serve_alice(ours, app)
    assert seen == {"finaliser": {}, "within": {"x-own": "1"}, "request": IS_ALICE}


def test_a_collection_at_any_moment_changes_no_credentials(ours: Class) -> None:
    """Python 3.11 may collect at any allocation, even while setting a context variable."""
    thresholds = gc.get_threshold()
    variables = [contextvars.ContextVar(f"v{number}", default=-1) for number in range(20)]
    wrong = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for number in range(300):
            Cycle(lambda: variables[0].set(-2))
            for variable in variables:
                variable.set(number)
            with remote.auth_metadata(("x-nested", str(number))):
                wrong.append(metadata() != {"x-nested": str(number)})
            wrong.append(metadata() != IS_ALICE)
            wrong.append({variable.get() for variable in variables} != {number})

    gc.set_threshold(1, 1, 1000)
    try:
        serve_alice(ours, app)
    finally:
        gc.set_threshold(*thresholds)
    assert (len(wrong), sum(wrong)) == (900, 0)


def test_collections_of_two_threads_may_overlap(ours: Class) -> None:
    """Python 3.12 starts a second collection if `gc.collect` is called when one was due anyway."""
    bob_collects, alice_is_done = threading.Event(), threading.Event()
    seen: dict[str, Any] = {}

    async def alice(scope: Scope, receive: Receive, send: Send) -> None:
        cycle = Cycle(start_bob)
        gc.collect()  # to the oldest generation
        del cycle
        gc.set_threshold(5)
        _ = [{1}, {2}, {3}, {4}, {5}, {6}, {7}, {8}, {9}, {10}]  # a collection is due
        gc.collect()
        alice_is_done.set()
        seen["alice"] = who()

    async def bob(scope: Scope, receive: Receive, send: Send) -> None:
        def linger() -> None:
            if threading.current_thread() is bob_thread:  # Python started a second one
                bob_collects.set()
                alice_is_done.wait(DEADLINE)

        Cycle(linger)
        gc.collect()
        seen["bob"] = who()

    def start_bob() -> None:
        bob_thread.start()
        bob_collects.wait(DEADLINE)

    def run_bob() -> None:
        asyncio.run(request(ours(bob), get(BOB)))
        bob_collects.set()

    bob_thread = threading.Thread(target=run_bob)
    thresholds = gc.get_threshold()
    try:
        serve_alice(ours, alice)
    finally:
        gc.set_threshold(*thresholds)
    bob_thread.join(DEADLINE)
    assert seen == {"alice": "Bearer alice", "bob": "Bearer bob"}


def test_the_collector_is_hooked_once_per_process(passthrough_auth: ModuleType) -> None:
    """Two hooks would exit each other's context, and leave the request in the wrong one."""
    nameless = functools.partial(lambda *_: None)
    gc.callbacks.append(nameless)
    copies = [import_copy(name) for name in ("one_copy", "another_copy")]
    gc.callbacks.remove(nameless)
    assert [getattr(hook, "__name__", "") for hook in gc.callbacks].count(HOOK) == 1
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        gc.collect()
        seen.append(metadata())

    for module in copies:
        serve_alice(module.FastAPIPassthroughAuthMiddleware, app)
    assert seen == [IS_ALICE] * 2

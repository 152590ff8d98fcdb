"""Finalisers that run while another caller is served have no credentials.

If a client does not read and then leaves, the server abandons a generator at its ``yield``. Its
``finally`` runs when the garbage collector finds it, in the context of the current request.
"""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from .harness import (
    Class,
    Connection,
    SdkMiddleware,
    message,
    metadata,
    sdk_fails,
    serve,
    wait_until,
)

CHUNK = b"x" * 65536
HOOK = "_finalise_as_nobody"


def _who() -> str:
    return metadata().get("authorization", "nobody")


class App:
    """Streams endlessly, and records the credentials of the clean-up after a stream."""

    def __init__(self) -> None:
        self.cleaned_up_by: list[str] = []
        self.ended = threading.Event()

    async def async_generator(self, cycle: list[Any]) -> AsyncIterator[bytes]:
        try:
            while cycle:
                yield CHUNK
        finally:
            self.cleaned_up_by.append(_who())

    def sync_generator(self, cycle: list[Any]) -> Iterator[bytes]:
        try:
            while cycle:
                yield CHUNK
        finally:
            self.cleaned_up_by.append(_who())

    async def object(self, cycle: list[Any]) -> AsyncIterator[bytes]:
        cycle.append(CleanedUp(self.cleaned_up_by))
        while cycle:
            yield CHUNK

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/collect":
            gc.collect()
            await PlainTextResponse(_who())(scope, receive, send)
            return

        async def yielding_send(message: Message) -> None:
            await send(message)
            await asyncio.sleep(0)  # the server notices here that the client has left

        # Only the collector finalises a generator that refers to itself.
        cycle: list[Any] = []
        cycle.append(getattr(self, scope["path"][1:])(cycle))
        try:
            await StreamingResponse(cycle[0])(scope, receive, yielding_send)
        finally:
            self.ended.set()


class CleanedUp:
    """An object that cleans up when it is finalised."""

    def __init__(self, by: list[str]) -> None:
        self.by = by
        self.itself: Any = self

    def __del__(self) -> None:
        self.by.append(_who())


@pytest.fixture(scope="module")
def app() -> App:
    return App()


@pytest.fixture(scope="module")
def port(either_class: Class, server: dict[str, str], app: App) -> Iterator[int]:
    with serve(either_class(app), **server) as port:
        yield port


@pytest.fixture(scope="module", autouse=True)
def small_heap() -> Iterator[None]:
    """Make collections fast: they skip all objects that exist already."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def collector_on_demand(middleware_class: Class) -> Iterator[None]:
    """Collect only when the app requests it; without our hook for the SDK's class."""
    hooks = list(gc.callbacks)
    if middleware_class is SdkMiddleware:
        gc.callbacks[:] = [hook for hook in hooks if getattr(hook, "__name__", "") != HOOK]
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    gc.callbacks[:] = hooks


@sdk_fails("clean-up after one caller's stream calls Flyte as another caller")
@pytest.mark.usefixtures("collector_on_demand")
@pytest.mark.parametrize("kind", ["async_generator", "sync_generator", "object"])
def test_clean_up_after_an_abandoned_stream_has_no_credentials(
    port: int, app: App, kind: str
) -> None:
    app.cleaned_up_by.clear()
    app.ended.clear()
    with Connection(port) as alice:
        alice.send(message("GET", f"/{kind}", "Authorization: Bearer alice"))
        assert alice.read_head().status == 200
    wait_until(app.ended.is_set)

    def bob_makes_the_collector_clean_up() -> bool:
        with Connection(port) as bob:
            answer = bob.ask("GET", "/collect", "Authorization: Bearer bob")
        assert answer.body == b"Bearer bob"
        return bool(app.cleaned_up_by)

    wait_until(bob_makes_the_collector_clean_up)
    assert app.cleaned_up_by == ["nobody"]

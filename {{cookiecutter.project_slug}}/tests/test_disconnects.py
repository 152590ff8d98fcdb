"""All work for a client ends when it disconnects: no call to Flyte remains, and no log line."""

import asyncio
import logging
import socket
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import ExitStack, aclosing
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send
from websockets.asyncio.client import connect

from app.disconnects import DisconnectMiddleware
from app.headers import LARGEST_BODY
from app.main import create_app
from app.settings import load_settings
from app.watching import with_silence
from local_flyte import LocalFlyte

from .support import authorization_of, long_run, needs, offers, serving, wait_until

VIEWERS = 50
STREAMS = {
    ("GET", "/runs/{run}/events"): "WatchActionDetails",
    ("GET", "/runs/{run}/logs"): "TailLogs",
    ("WEBSOCKET", "/runs/{run}/watch"): "WatchActionDetails",
}
"""The call to Flyte that each of them holds."""
ALICE = {"Authorization": authorization_of("alice")}


@pytest.fixture(scope="module")
def silent_run(alice: httpx.Client) -> Iterator[str]:
    """A run that goes on and on."""
    with long_run(alice) as run:
        yield run["name"]


async def view(method: str, url: str, seen: asyncio.Semaphore) -> None:
    """Watch a run from when the first has come until cancelled."""
    if method == "WEBSOCKET":
        address = url.replace("http", "ws", 1)
        async with connect(
            address, additional_headers=ALICE, proxy=None, open_timeout=60
        ) as websocket:
            async for _ in websocket:
                seen.release()
    else:
        async with (
            httpx.AsyncClient(headers=ALICE, timeout=60, trust_env=False) as client,
            client.stream(method, url) as response,
        ):
            seen.release()
            async for _ in response.aiter_raw():
                pass


async def come_and_leave(
    views: Callable[[asyncio.Semaphore], Coroutine[Any, Any, None]],
    ready: Callable[[], bool],
    *,
    answered: bool = False,
) -> None:
    """Have many viewers come, and leave together when they are all there."""
    seen = asyncio.Semaphore(0)
    viewers = [asyncio.create_task(views(seen)) for _ in range(VIEWERS)]
    while not await asyncio.to_thread(ready):
        assert not any(viewer.done() for viewer in viewers)
        await asyncio.sleep(0.02)
    for _ in viewers if answered else ():
        await seen.acquire()
    for viewer in viewers:
        viewer.cancel()
    await asyncio.wait(viewers)


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the app has logged, or what serves it; the viewers are clients of httpx."""
    return [record.getMessage() for record in caplog.records if record.name != "httpx"]


def all_is_quiet(local_flyte: LocalFlyte, calls: str) -> None:
    """See that the calls end, and that nothing follows and nothing is being worked on."""
    wait_until(lambda: local_flyte.open_calls(calls) == 0)
    local_flyte.clear_calls()
    before, began = time.process_time(), time.monotonic()
    time.sleep(0.5)
    used = (time.process_time() - before) / (time.monotonic() - began)
    assert used < 0.5, f"{used:.0%} of a core"  # this process: the app, and an idle local Flyte
    assert local_flyte.calls == []
    assert local_flyte.open_calls(calls) == 0


@pytest.mark.reads_what_flyte_received
@pytest.mark.parametrize("hanging", ["answering", "hung before", "hung after"])
@pytest.mark.parametrize("stream", STREAMS, ids=" ".join)
def test_no_call_remains_after_viewers_disconnect(
    app_url: str,
    local_flyte: LocalFlyte,
    silent_run: str,
    stream: tuple[str, str],
    hanging: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    method, path = stream
    if not offers(path.replace("{run}", silent_run), method):
        pytest.skip(f"the app does not offer {method} {path}")
    call, url = STREAMS[stream], f"{app_url}{path.replace('{run}', silent_run)}"
    with caplog.at_level(logging.INFO), ExitStack() as stack:
        if hanging == "hung before":
            stack.enter_context(local_flyte.hang(call))

        def all_there() -> bool:
            return local_flyte.open_calls(call) == VIEWERS

        asyncio.run(
            come_and_leave(
                lambda seen: view(method, url, seen), all_there, answered=hanging != "hung before"
            )
        )
        if hanging == "hung after":
            stack.enter_context(local_flyte.hang("GetActionDetails"))
            stack.enter_context(local_flyte.hang("SelectCluster"))
        all_is_quiet(local_flyte, call)
    assert logged(caplog) == []


@pytest.mark.steers_flyte
@needs("/runs")
def test_a_call_that_hangs_ends_with_its_request(
    app_url: str, local_flyte: LocalFlyte, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), local_flyte.hang("ListRuns"):

        def all_there() -> bool:
            return local_flyte.open_calls("ListRuns") == VIEWERS

        url = f"{app_url}/runs"
        asyncio.run(come_and_leave(lambda seen: view("GET", url, seen), all_there))
        all_is_quiet(local_flyte, "ListRuns")
    assert logged(caplog) == []


@pytest.mark.reads_what_flyte_received
@needs("/runs/x/events")
@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_no_call_remains_after_a_viewer_who_sends_a_body_disconnects(
    environment: dict[str, str],
    local_flyte: LocalFlyte,
    silent_run: str,
    http: Literal["h11", "httptools"],
) -> None:
    head = (
        f"GET /runs/{silent_run}/events HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n"
        f"Authorization: {ALICE['Authorization']}\r\n\r\n"
    )
    with serving(create_app(load_settings()), http=http) as url:
        address = urlsplit(url)
        with socket.create_connection((address.hostname, address.port)) as viewer:
            viewer.sendall(head.encode())
            for _ in range(30):  # from before it is listened whether the client leaves until after
                viewer.sendall(b"1\r\nx\r\n")
                time.sleep(0.05)
            assert local_flyte.open_calls("WatchActionDetails") == 1
        wait_until(lambda: local_flyte.open_calls("WatchActionDetails") == 0)


def asked(app: Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]], body: bytes) -> None:
    """Send a body in pieces to an app behind the middleware, then leave."""
    pieces = [body[i : i + 1000] for i in range(0, len(body), 1000)]
    messages: list[Message] = [
        {"type": "http.request", "body": piece, "more_body": index < len(pieces)}
        for index, piece in enumerate(pieces, 1)
    ]
    messages.append({"type": "http.disconnect"})

    async def receive() -> Message:
        for _ in range(1 if messages[1:] else 100):
            await asyncio.sleep(0)
        return messages.pop(0)

    async def send(_: Message) -> None:
        raise AssertionError

    async def ask() -> None:
        async with asyncio.timeout(60):
            middleware = DisconnectMiddleware(app, after=0)
            await middleware({"type": "http", "method": "POST", "headers": []}, receive, send)

    asyncio.run(ask())


def test_a_body_that_nobody_reads_does_not_hide_that_its_sender_disconnects() -> None:
    cancelled = False

    async def app(*_: Any) -> None:
        nonlocal cancelled
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            cancelled = True
            raise

    asked(app, b"x" * 10_000)
    assert cancelled


@pytest.mark.parametrize("size", [10_000, 2 * LARGEST_BODY])
def test_a_body_that_is_read_late_is_whole_and_is_not_kept_at_any_length(size: int) -> None:
    body, read = b"0123456789" * (size // 10), b""

    async def app(scope: Scope, receive: Receive, _: Send) -> None:
        nonlocal read
        for _turn in range(20):
            await asyncio.sleep(0)
        async for piece in Request(scope, receive).stream():
            read += piece

    asked(app, body)
    assert body.startswith(read)
    assert min(size, LARGEST_BODY) <= len(read) <= LARGEST_BODY + 1000


@pytest.mark.parametrize("leaves", ["before the next item", "as the next item comes"])
def test_a_stream_is_closed_whatever_has_come_of_it(leaves: str) -> None:
    is_open = False

    async def stream() -> AsyncGenerator[int]:
        nonlocal is_open
        is_open = True
        try:
            for number in range(10):
                yield number
        finally:
            is_open = False

    async def leave() -> None:
        source = stream()  # held here, so that the garbage collector does not close it
        async with aclosing(with_silence(source, tick=60)) as items:
            assert await anext(items) == 0
            for _ in range(5) if leaves == "as the next item comes" else ():
                await asyncio.sleep(0)
            assert is_open
        assert not is_open
        await source.aclose()

    asyncio.run(leave())

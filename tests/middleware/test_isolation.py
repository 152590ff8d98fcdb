"""Only the caller's own credentials, and only during the request."""

import asyncio
import contextvars
import gc
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from flyte import remote
from starlette.types import Message, Receive, Scope, Send

from .harness import (
    ALICE,
    COOKIE,
    DEADLINE,
    Class,
    Probe,
    http_scope,
    import_copy,
    metadata,
    raw_metadata,
    request,
    sdk_fails,
)


def test_ambient_metadata_survives_on_excluded_paths_only(middleware_class: Class) -> None:
    probe = Probe()
    app = middleware_class(probe, None, {"/health"})

    async def run() -> None:
        with remote.auth_metadata(("x-ambient", "1")):
            await request(app, http_scope("/health"))
            await request(app, http_scope("/", headers=[ALICE]))
            assert metadata() == {"x-ambient": "1"}
        assert metadata() == {}

    asyncio.run(run())
    assert probe.seen == [{"x-ambient": "1"}, {"authorization": "Bearer alice"}]


def test_the_inner_of_two_instances_wins(middleware_class: Class) -> None:
    probe = Probe()
    inner = middleware_class(probe, [lambda _: ("x-inner", "1")], {"/inner-excluded"})
    app = middleware_class(inner)
    asyncio.run(request(app, http_scope(headers=[ALICE])))
    asyncio.run(request(app, http_scope("/inner-excluded", headers=[ALICE])))
    assert probe.seen == [{"x-inner": "1"}, {"authorization": "Bearer alice"}]


def test_exceptions_propagate_and_leave_the_context_clean(middleware_class: Class) -> None:
    class BoomError(Exception):
        pass

    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        raise BoomError

    async def run() -> None:
        with pytest.raises(BoomError):
            await request(middleware_class(failing), http_scope(headers=[ALICE]))
        assert metadata() == {}

    asyncio.run(run())


def test_cancellation_propagates_and_leaves_the_context_clean(middleware_class: Class) -> None:
    entered = asyncio.Event()
    outcome: list[Any] = []

    async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            outcome.append(metadata())
            raise

    async def run() -> None:
        async def serving() -> None:
            try:
                await request(middleware_class(waiting), http_scope(headers=[ALICE]))
            finally:
                outcome.append(metadata())

        task = asyncio.create_task(serving())
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert outcome == [{"authorization": "Bearer alice"}, {}]


def test_thousands_of_interleaved_callers_never_mix(middleware_class: Class) -> None:
    mixed = []

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        mine = dict(scope["headers"])[b"authorization"].decode()
        for _ in range(3):
            await asyncio.sleep(0)
            if metadata() != {"authorization": mine}:
                mixed.append(mine)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": mine.encode()})

    app = middleware_class(slow)

    async def one(number: int) -> None:
        token = b"Bearer %d" % number
        answer = await request(app, http_scope(headers=[(b"authorization", token)]))
        assert answer.body == token

    async def run() -> None:
        await asyncio.gather(*(one(number) for number in range(2000)))

    asyncio.run(run())
    assert mixed == []


def test_background_work_of_the_request_has_its_credentials(middleware_class: Class) -> None:
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def child() -> None:
            seen.append(metadata())

        await asyncio.create_task(child())
        await asyncio.to_thread(lambda: seen.append(metadata()))
        await Probe()(scope, receive, send)
        seen.append(metadata())

    asyncio.run(request(middleware_class(app), http_scope(headers=[ALICE])))
    assert seen == [{"authorization": "Bearer alice"}] * 3


@sdk_fails("what the server does inside receive() inherits the caller's credentials")
@pytest.mark.parametrize("ambient", [(), (("x-ambient", "1"),)], ids=["bare", "ambient"])
def test_the_server_callables_never_run_with_the_callers_credentials(
    either_class: Class, ambient: tuple[tuple[str, str], ...]
) -> None:
    seen: dict[str, list[Any]] = {"receive": [], "send": [], "app": [], "within": []}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen["app"].append(metadata())
        message = await receive()
        seen["app"].append((message["body"], metadata()))
        with remote.auth_metadata(("x-nested", "1")):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            seen["within"].append(metadata())
        await send({"type": "http.response.body", "body": b""})
        seen["app"].append(metadata())

    async def receive() -> Message:
        seen["receive"].append(raw_metadata())
        await asyncio.sleep(0)
        seen["receive"].append(raw_metadata())
        return {"type": "http.request", "body": b"body", "more_body": False}

    async def send(message: Message) -> None:
        seen["send"].append(raw_metadata())
        await asyncio.sleep(0)
        seen["send"].append(raw_metadata())

    async def run() -> None:
        wrapped = either_class(app)
        if ambient:
            with remote.auth_metadata(*ambient):
                await wrapped(http_scope(headers=[ALICE]), receive, send)
        else:
            await wrapped(http_scope(headers=[ALICE]), receive, send)

    asyncio.run(run())
    alice = {"authorization": "Bearer alice"}
    assert seen["app"] == [alice, (b"body", alice), alice]
    assert seen["within"] == [{"x-nested": "1"}]
    assert set(seen["receive"]) == {ambient}
    assert set(seen["send"]) == {ambient}


@pytest.mark.parametrize("failing", ["receive", "send"])
@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError])
def test_the_credentials_are_back_after_a_server_callable_raised(
    ours: Class, failing: str, error: type[BaseException]
) -> None:
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await (receive() if failing == "receive" else send({"type": "http.response.start"}))
        except error:
            seen.append(metadata())

    async def broken(*_: Any) -> Any:
        raise error

    asyncio.run(ours(app)(http_scope(headers=[ALICE]), broken, broken))
    assert seen == [{"authorization": "Bearer alice"}]


def test_the_class_keeps_nothing_of_a_request(ours: Class) -> None:
    app = ours(Probe())
    before = dict(vars(app))
    asyncio.run(request(app, http_scope(headers=[ALICE, COOKIE])))
    assert vars(app) == before
    assert "alice" not in repr(vars(app))


# A collection's effects on the current request; test_abandoned_streams.py tests the other side.


class Cycle:
    """An object that only the collector can finalise, with a finaliser that does something."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self.act = act
        self.itself = self

    def __del__(self) -> None:
        self.act()


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

    asyncio.run(request(ours(app), http_scope(headers=[ALICE])))
    assert seen == {
        "finaliser": {},
        "within": {"x-own": "1"},
        "request": {"authorization": "Bearer alice"},
    }


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
            wrong.append(metadata() != {"authorization": "Bearer alice"})
            wrong.append({variable.get() for variable in variables} != {number})

    gc.set_threshold(1, 1, 1000)
    try:
        asyncio.run(request(ours(app), http_scope(headers=[ALICE])))
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
        seen["alice"] = metadata()

    async def bob(scope: Scope, receive: Receive, send: Send) -> None:
        def linger() -> None:
            if threading.current_thread() is bob_thread:  # Python started a second one
                bob_collects.set()
                alice_is_done.wait(DEADLINE)

        Cycle(linger)
        gc.collect()
        seen["bob"] = metadata()

    def start_bob() -> None:
        bob_thread.start()
        bob_collects.wait(DEADLINE)

    def run_bob() -> None:
        asyncio.run(request(ours(bob), http_scope(headers=[(b"authorization", b"Bearer bob")])))
        bob_collects.set()

    bob_thread = threading.Thread(target=run_bob)
    thresholds = gc.get_threshold()
    try:
        asyncio.run(request(ours(alice), http_scope(headers=[ALICE])))
    finally:
        gc.set_threshold(*thresholds)
    bob_thread.join(DEADLINE)
    assert seen == {
        "alice": {"authorization": "Bearer alice"},
        "bob": {"authorization": "Bearer bob"},
    }


def test_the_collector_is_hooked_once_per_process(
    ours: Class, passthrough_auth: ModuleType
) -> None:
    """Two hooks would exit each other's context, and leave the request in the wrong one."""
    copies = [import_copy(name) for name in ("one_copy", "another_copy")]
    for module in (*copies, passthrough_auth):
        module.FastAPIPassthroughAuthMiddleware(Probe())
    names = [getattr(hook, "__name__", "") for hook in gc.callbacks]
    assert names.count("_finalise_as_nobody") == 1
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        gc.collect()
        seen.append(metadata())

    for module in copies:
        cls = module.FastAPIPassthroughAuthMiddleware
        asyncio.run(request(cls(app), http_scope(headers=[ALICE])))
    assert seen == [{"authorization": "Bearer alice"}] * 2

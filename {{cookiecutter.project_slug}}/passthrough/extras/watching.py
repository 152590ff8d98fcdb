"""Watching a run and its actions, and waiting no longer than a request may."""

import asyncio
import math
import time
from array import array
from bisect import bisect_left
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from itertools import islice
from typing import Generic, TypeVar

import anyio
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyte import remote
from flyte.models import ActionPhase
from flyteidl2.common.identifier_pb2 import RunIdentifier
from flyteidl2.workflow.run_definition_pb2 import Action, Run
from flyteidl2.workflow.run_service_pb2 import WatchActionsRequest, WatchActionsResponse

from ..calls.request_state import called_at_stop, this_request
from ..calls.sdk import FLYTE_ERRORS, initialised
from ..models import FAILED, WAITING, is_answered, phase_of
from . import reading
from .reading import (
    call_each,
    fetch_condition,
    leave_out_large,
    listed_details,
    read_details,
    state_of,
)

Result = TypeVar("Result")

ROOT = "a0"  # a run's first action
MAX_PENDING_BYTES = 256 * 1024  # of states that a viewer has still to get, in memory
WATCHED_DETAILS = 500  # actions whose details a viewer of a run gets
MERGED_SECONDS = 0.5  # between two looks at an action: Flyte may notify several times
WAITING_SECONDS = 10.0  # the same while it waits: its state does not say what the cluster does
QUIET_SECONDS = 2.0  # from a run's end, without news: Flyte may record an answer late
LOOK_AGAIN_SECONDS, MAX_LOOK_AGAIN_SECONDS = 0.1, 2.0  # whether an answer has been recorded
REOPEN_SECONDS = 1.0  # until a watch that has ended before its run is opened again


async def watch_run(run: remote.Run) -> AsyncGenerator[remote.Run]:
    """Yield a run's state, without its details, now and whenever it changes, until its end."""
    async with aclosing(watch_action(run.action)) as states:
        async for action in states:
            yield remote.Run(Run(action=action.pb2))


async def watch_action(action: remote.Action) -> AsyncGenerator[remote.Action]:
    """Yield an action's state, with its attempts, now and whenever it changes, until its end."""
    seen = b""
    async with aclosing(_watch(action.action_id.run, action.name)) as messages:
        async for states in messages:
            for state in states.values():
                if state != seen:
                    seen = state
                    yield await read_details(_action(state), state_of)


async def wait_for(run: remote.Run, seconds: float) -> None:
    """Wait for a run's end, but not longer than this; then update ``run`` to its state.

    If this request has started the run, Flyte's errors are ignored: the caller must learn of the
    run in any case.
    """

    async def until_its_end() -> None:
        async with aclosing(_watch(run.action.action_id.run, ROOT)) as messages:
            async for _ in messages:
                pass

    async def update() -> None:
        run.action = await read_details(run.action, state_of)
        run.pb2 = Run(action=run.action.pb2)

    if not seconds or run.done():
        return
    if this_request().run == run.name:
        async with best_effort(seconds):
            await until_its_end()
        async with best_effort():
            await update()
    else:
        with _time_limit(seconds):
            await until_its_end()
        await update()


async def wait_for_answer(condition: remote.ActionDetails) -> remote.ActionDetails:
    """Wait until a condition's answer is recorded, or the condition ends; return the details.

    Flyte records an answer a moment later, sometimes after the run's end, and without a change of
    state for a watch to show.
    """
    pause = LOOK_AGAIN_SECONDS
    while not is_answered(condition) and phase_of(condition.raw_phase) is ActionPhase.PAUSED:
        await asyncio.sleep(pause)
        pause = min(2 * pause, MAX_LOOK_AGAIN_SECONDS)
        condition = await fetch_condition(condition.run_name, condition.name)
    return condition


@asynccontextmanager
async def best_effort(seconds: float = math.inf) -> AsyncGenerator[None]:
    """Run the block for what it may add to an answer, which is given in any case.

    The block is left after these seconds, after ``FLYTE_TIMEOUT``, shortly before the request's
    deadline, when the server is asked to stop, or at any error of Flyte's.
    """
    with suppress(*FLYTE_ERRORS), _time_limit(seconds):
        yield


@contextmanager
def _time_limit(seconds: float) -> Generator[None]:
    """Leave the block after these seconds or, if that is earlier, as `best_effort` says."""
    deadline = this_request().deadline
    left = 0.9 * deadline.seconds_left()  # a tenth is left to write the response
    with anyio.move_on_after(min(seconds, deadline.timeout, left)) as limit:
        called_at_stop[limit.cancel] = asyncio.get_running_loop()
        try:
            yield
        finally:
            called_at_stop.pop(limit.cancel, None)


async def watch_details(
    run: remote.Run, read: Callable[[remote.ActionDetails], Result]
) -> AsyncGenerator[Result]:
    """Yield what is read from the details of each action of a run, now and whenever it may differ.

    Beyond the first `WATCHED_DETAILS` actions, only those that fail or ask are read from
    their details; the others from what a list has. It ends soon after the run (`QUIET_SECONDS`).
    """
    viewer, request = _Viewer(read), this_request()
    listening = asyncio.create_task(viewer.listen(run.action.action_id.run))
    listening.add_done_callback(lambda _: viewer.news.set())
    try:
        with request.at_end(viewer.changed.clear):
            while viewer.changed or not listening.done():
                due = viewer.due(at_once=listening.done())
                for result in await call_each(viewer.fetch, due) if due else ():
                    yield result
                if not due:
                    with anyio.move_on_after(MERGED_SECONDS if viewer.changed else None):
                        await viewer.news.wait()
                    viewer.news.clear()
            await listening  # it may have failed
    finally:
        listening.cancel()
        try:
            await asyncio.gather(listening, return_exceptions=True)
        finally:
            del listening  # its exception may be in a cycle with this frame


class _Viewer(Generic[Result]):
    """What a viewer of a run knows of its actions, and which of them are still to be sent."""

    def __init__(self, read: Callable[[remote.ActionDetails], Result]) -> None:
        self.changed = dict[str, bytes]()  # the states of those that are still to be sent
        self.news = asyncio.Event()
        self._read = read
        self._known = KnownStates()
        self._fetched_at = dict[str, float]()  # of those whose details are read

    async def listen(self, run: RunIdentifier) -> None:
        """Note what changes; pause while the viewer is behind."""
        async with aclosing(_watch(run)) as messages:
            async for states in messages:
                for name, state in states.items():
                    is_new = self._known.replace(name, state)
                    if is_new or (name in self._fetched_at and _is_waiting(state)):
                        self.changed[name] = state
                states.clear()
                self.news.set()
                while self.is_full():  # noqa: ASYNC110 - hardly ever
                    await asyncio.sleep(MERGED_SECONDS)

    def is_full(self) -> bool:
        """Tell whether too much is still to be sent to read another message."""
        return sum(map(len, self.changed.values())) > MAX_PENDING_BYTES

    def due(self, *, at_once: bool) -> list[str]:
        """Return the next actions to fetch, of those that may be fetched again, or of all."""
        now = time.monotonic()

        def may_be_fetched(name: str) -> bool:
            pause = WAITING_SECONDS if _is_waiting(self.changed[name]) else MERGED_SECONDS
            return at_once or now >= self._fetched_at.get(name, -math.inf) + pause

        return [*islice(filter(may_be_fetched, self.changed), reading.CALLS_AT_ONCE)]

    async def fetch(self, name: str) -> Result:
        """Return what is to be sent of an action."""
        action = _action(self.changed.pop(name))
        has_room = len(self._fetched_at) < WATCHED_DETAILS
        if is_watched := has_room or name in self._fetched_at:
            self._fetched_at[name] = time.monotonic()
        # Of an action that fails or asks, only the details say why, or what.
        if is_watched or phase_of(action.raw_phase) in FAILED | {ActionPhase.PAUSED}:
            return await read_details(action, self._read)
        return self._read(listed_details(action))


class KnownStates:
    """Hashes of the states of actions that came last, in 16 bytes each.

    In a dict, each takes 220: 100 viewers of a run of 50,000 actions would take a gigabyte.
    """

    def __init__(self) -> None:
        self._names, self._states = array("q"), array("q")  # the names' hashes are sorted

    def replace(self, name: str, state: bytes) -> bool:
        """Note an action's state, and tell whether it is another than before."""
        key, new = hash(name), hash(state)
        place = bisect_left(self._names, key)
        if self._names[place : place + 1] != array("q", [key]):
            self._names.insert(place, key)
            self._states.insert(place, new)
            return True
        before, self._states[place] = self._states[place], new
        return before != new


def _action(state: bytes) -> remote.Action:
    return remote.Action(Action.FromString(state))


def _is_waiting(state: bytes) -> bool:
    return phase_of(_action(state).raw_phase) in WAITING


async def _watch(run: RunIdentifier, only: str = "") -> AsyncGenerator[dict[str, bytes]]:
    """Yield all actions of a run, or ``only`` one, then those that Flyte notifies of.

    It ends with ``only``, or soon after the run (`QUIET_SECONDS`). Parents come before their
    children. An action has its state, its parent, its group, and its task's short name. It is
    serialised: a part of a message would keep all of it in memory.
    """
    seconds_left: float | None = None  # without news, until the watch ends

    def copied(message: WatchActionsResponse) -> dict[str, bytes]:
        nonlocal seconds_left
        states = dict[str, bytes]()
        for action in (enriched.action for enriched in message.enriched_actions):
            name = action.id.name
            if name in {ROOT, only} and remote.Action(action).done():
                seconds_left = 0 if name == only else QUIET_SECONDS
            if only in {"", name}:
                leave_out_large(action.metadata)
                states[name] = action.SerializeToString(deterministic=True)
        return states

    while seconds_left is None:
        has_begun = False
        try:
            sent = initialised().client.run_service.watch_actions(WatchActionsRequest(run_id=run))
            async with aclosing(sent) as messages:
                while True:
                    async with asyncio.timeout(seconds_left):
                        message = await anext(messages, None)
                    if message is None:
                        break
                    has_begun = True
                    states = copied(message)
                    message = None
                    this_request().release_messages()
                    yield states
        except TimeoutError:
            return
        except ConnectError as error:
            # A proxy cuts off quiet streams; a notification of a child may overtake its parent's.
            is_cut = error.code is Code.UNAVAILABLE or "parent node" in str(error.message)
            if not (has_begun and is_cut):
                raise
        if seconds_left is None:
            await asyncio.sleep(REOPEN_SECONDS)

"""Watching all actions of a run, which Flyte's console does and the SDK cannot."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from itertools import islice
from typing import TypeVar

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyte import remote
from flyte.models import ActionPhase
from flyteidl2.workflow.run_definition_pb2 import Action
from flyteidl2.workflow.run_service_pb2 import WatchActionsRequest

from ..calls.caller import initialised
from ..limits import (
    MAX_ACTIONS_AT_ONCE,
    MAX_ANSWER_BYTES,
    MAX_CALLS_AT_ONCE,
    MAX_REMEMBERED_ACTIONS,
    MAX_WATCHED_DETAILS,
)
from ..models import FAILED, WAITING, phase_of
from .lists import call_each, listed_details, read_details

Result = TypeVar("Result")

ROOT = "a0"
"""The name of a run's first action."""

NEED_DETAILS = FAILED | {ActionPhase.PAUSED}
"""Phases in which only the details say what matters: the error, or the question."""

PAUSE_SECONDS = 1.0
"""Until a watch that has ended before its run is opened again."""

ENDED, ASKS, GOES_ON = range(3)
"""What is left of an action, or of a run: of the latter, the most that is left of an action."""

QUIET_SECONDS = {ENDED: 1.0, ASKS: 5.0, GOES_ON: None}
"""Without news, until the watch ends: an answer may be recorded late, and the last actions may come
in several messages."""


async def watch_details(
    run: remote.Run, read: Callable[[remote.ActionDetails], Result]
) -> AsyncGenerator[Result]:
    """Yield what is read from the details of each action of a run, now and after each change.

    Each action is fetched in its latest state. After `MAX_WATCHED_DETAILS`, only those that fail or
    ask have more than a list has. It ends as `watch_actions` does.
    """
    fetched = set[int]()  # by hashes: names may be large

    async def details(action: remote.Action) -> Result:
        key = hash(action.name)
        if len(fetched) < MAX_WATCHED_DETAILS:
            fetched.add(key)
        if key in fetched or phase_of(action.raw_phase) in NEED_DETAILS:
            return await read_details(action, read)
        return read(listed_details(action))

    changes = _Changes()
    listening = asyncio.create_task(changes.listen(run))
    try:
        while some := await changes.take(MAX_CALLS_AT_ONCE):
            for result in await call_each(details, some):
                yield result
        await listening  # it may have failed
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


class _Changes:
    """The actions of a run that have changed since they were last taken, in their latest state."""

    def __init__(self) -> None:
        self._changed: dict[str, remote.Action] = {}
        self._has_ended = False
        self._news = asyncio.Condition()

    async def listen(self, run: remote.Run) -> None:
        """Collect what changes until the run has ended. While much is not taken, Flyte waits."""
        try:
            async with aclosing(watch_actions(run)) as watched:
                async for actions in watched:
                    async with self._news:
                        self._changed.update((action.name, action) for action in actions)
                        self._news.notify_all()
                        await self._news.wait_for(self._has_room)
        finally:
            async with self._news:
                self._has_ended = True
                self._news.notify_all()

    def _has_room(self) -> bool:
        size = sum(action.pb2.ByteSize() for action in self._changed.values())
        return len(self._changed) < MAX_ACTIONS_AT_ONCE and size < MAX_ANSWER_BYTES

    async def take(self, most: int) -> list[remote.Action]:
        """Wait for changes, and return some of them; none if there will be no more."""
        async with self._news:
            await self._news.wait_for(lambda: self._changed or self._has_ended)
            taken = [self._changed.pop(name) for name in [*islice(self._changed, most)]]
            self._news.notify_all()
        return taken


async def watch_actions(run: remote.Run) -> AsyncGenerator[list[remote.Action]]:
    """Yield the actions of a run: all of them at once, then those that have changed.

    Parents come before their children, and at most `MAX_ACTIONS_AT_ONCE`. One that waits for the
    cluster comes whenever Flyte sends it: what happens to it there may be new. An action has its
    state and its task's short name. It ends soon after all actions have ended (`QUIET_SECONDS`),
    even if some still ask: those of an aborted run stay paused.

    Raises:
        ConnectError: Flyte's, such as DEADLINE_EXCEEDED if it does not send anything.
    """
    seen = _Seen()
    while not seen.root_has_ended:
        has_begun = False
        try:
            async with aclosing(_sent(run)) as messages:
                while True:
                    async with asyncio.timeout(QUIET_SECONDS[seen.what_is_left()]):
                        actions = await anext(messages, None)
                    if actions is None:
                        break
                    has_begun = True
                    if changed := [action for action in actions if seen.has_changed(action)]:
                        yield changed
        except TimeoutError:
            return
        except ConnectError as error:  # as of a proxy that cuts off quiet streams
            if not has_begun or error.code is not Code.UNAVAILABLE:
                raise
        await asyncio.sleep(PAUSE_SECONDS)


async def _sent(run: remote.Run) -> AsyncGenerator[list[remote.Action]]:
    request = WatchActionsRequest(run_id=run.pb2.action.id.run)
    async with aclosing(initialised().client.run_service.watch_actions(request)) as messages:
        async for message in messages:
            found = message.enriched_actions
            for start in range(0, len(found), MAX_ACTIONS_AT_ONCE):
                part = found[start : start + MAX_ACTIONS_AT_ONCE]
                yield [_copied(each.action) for each in part]
                await asyncio.sleep(0)


def _copied(action: Action) -> remote.Action:
    copy = Action()  # a part of a message keeps all of it in memory
    copy.CopyFrom(action)
    return remote.Action(copy)


class _Seen:
    """What a viewer has seen of a run's actions; by hashes, since names may be large."""

    def __init__(self) -> None:
        self._states: dict[int, tuple[int, int]] = {}
        self.root_has_ended = False

    def what_is_left(self) -> int:
        return max(left for _, left in self._states.values()) if self.root_has_ended else GOES_ON

    def has_changed(self, action: remote.Action) -> bool:
        """Take note of an action, and tell whether anything of it may be new."""
        phase = phase_of(action.raw_phase)
        left = ENDED if action.done() else ASKS if phase is ActionPhase.PAUSED else GOES_ON
        key, state = hash(action.name), (hash(action.pb2.SerializeToString()), left)
        is_new = self._states.pop(key, None) != state
        self._states[key] = state
        if len(self._states) > MAX_REMEMBERED_ACTIONS:
            del self._states[next(iter(self._states))]
        self.root_has_ended = self.root_has_ended or (action.name == ROOT and action.done())
        return is_new or phase in WAITING

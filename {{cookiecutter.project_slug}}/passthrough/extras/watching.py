"""Watching a run and its actions, which Flyte's console does and the SDK cannot."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import Generic, TypeVar

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyte import remote
from flyte.models import ActionPhase
from flyteidl2.common.identifier_pb2 import RunIdentifier
from flyteidl2.workflow.run_definition_pb2 import Action, Run
from flyteidl2.workflow.run_service_pb2 import WatchActionsRequest

from ..calls.caller import initialised
from ..limits import limits
from ..models import FAILED, WAITING, phase_of
from .lists import call_each, listed_details, read_details
from .runs import state_of

Result = TypeVar("Result")

ROOT = "a0"
"""The name of a run's first action."""

NEED_DETAILS = FAILED | {ActionPhase.PAUSED}
"""Phases in which only the details say what matters: the error, or the question."""

MERGED_SECONDS = 0.5
"""Between two looks at an action, which Flyte notifies of several times; an end is read at once."""

WAITING_SECONDS, MAX_WAITING_SECONDS = 3.0, 30.0
"""The same for an action that waits for the cluster; longer each time, until its state changes."""

QUIET_SECONDS, UNFINISHED_SECONDS = 1.0, 5.0
"""Without news, from a run's end until its watch ends; the latter while not all of its actions have
ended: an answer may be recorded late, and what a failed run has asked stays paused."""

REOPEN_SECONDS = 1.0
"""Until a watch that has ended before its run is opened again."""


async def watch_run(run: remote.Run) -> AsyncGenerator[remote.Run]:
    """Yield a run's state, without its details, now and whenever it changes, until its end."""
    if run.done():
        yield run
        return
    async with aclosing(watch_action(run.action, state_of)) as states:
        async for action in states:
            yield remote.Run(Run(action=action.pb2))


async def watch_action(
    action: remote.Action, read: Callable[[remote.ActionDetails], Result]
) -> AsyncGenerator[Result]:
    """Yield what is read from an action's details, now and whenever its state changes, to its end.

    Raises:
        ConnectError: Flyte's, such as DEADLINE_EXCEEDED if it does not send anything.
    """
    id_, seen = action.action_id, ""
    async with aclosing(_watch(id_.run)) as messages:
        async for actions in messages:
            for found in (each for each in actions if each.id.name == id_.name):
                if seen != (seen := str(found.status)):
                    yield await read_details(remote.Action(found), read)
                if remote.Action(found).done():
                    return


async def watch_details(
    run: remote.Run, read: Callable[[remote.ActionDetails], Result]
) -> AsyncGenerator[Result]:
    """Yield what is read from the details of each action of a run, now and whenever it differs.

    After `Limits.watched_details`, only actions that fail or ask have more than a list has. It ends
    soon after the run (`QUIET_SECONDS`).

    Raises:
        ConnectError: Flyte's, such as DEADLINE_EXCEEDED if it does not send anything.
    """
    known, changed = dict[str, _Watched[Result]](), dict[str, _Watched[Result]]()
    most, news = limits(), asyncio.Event()

    async def listen() -> None:
        try:
            async with aclosing(_watch(run.action.action_id.run)) as messages:
                async for actions in messages:
                    for action in actions:
                        name, has_details = action.id.name, len(known) < most.watched_details
                        watched = known.setdefault(name, _Watched(has_details))
                        if watched.notice(action):
                            changed[name] = watched
                    news.set()
        finally:
            news.set()

    listening = asyncio.create_task(listen())
    try:
        while changed or not listening.done():
            now = math.inf if listening.done() else time.monotonic()
            due = [name for name, each in changed.items() if each.due <= now][: most.calls_at_once]
            some = [changed.pop(name) for name in due]
            for results in await call_each(lambda each: each.fetch(read), some):
                for result in results:
                    yield result
            if not due:
                news.clear()
                until = min((each.due for each in changed.values()), default=math.inf)
                with suppress(TimeoutError):
                    async with asyncio.timeout(until - now if changed else None):
                        await news.wait()
        await listening  # it may have failed
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


class _Watched(Generic[Result]):
    """An action as its viewer knows it; by hashes, so that little is kept of many."""

    def __init__(self, has_details: bool) -> None:
        self._has_details = has_details
        self._action = remote.Action(Action())
        self._state = self._sent = 0
        self._pause = WAITING_SECONDS
        self._fetched_at = -math.inf

    def notice(self, action: Action) -> bool:
        """Take a notification about the action, and tell whether anything of it may be new."""
        state = hash(action.SerializeToString(deterministic=True))
        if is_new := state != self._state:
            self._state, self._pause = state, WAITING_SECONDS
        self._action = remote.Action(action)
        return is_new or self._waits()

    def _waits(self) -> bool:
        """Tell whether the action waits for the cluster: then what happens there may be new."""
        return phase_of(self._action.raw_phase) in WAITING

    @property
    def due(self) -> float:
        """The time, of ``time.monotonic()``, from which it may be fetched again."""
        pause = self._pause if self._waits() else MERGED_SECONDS
        return -math.inf if self._action.done() else self._fetched_at + pause

    async def fetch(self, read: Callable[[remote.ActionDetails], Result]) -> list[Result]:
        """Return what is read from its details, unless that is as before."""
        if self._fetched_at > -math.inf:
            self._pause = min(2 * self._pause, MAX_WAITING_SECONDS)
        self._fetched_at = time.monotonic()
        if self._has_details or phase_of(self._action.raw_phase) in NEED_DETAILS:
            result = await read_details(self._action, read)
        else:
            result = read(listed_details(self._action))
        before, self._sent = self._sent, hash(repr(result))
        return [] if self._sent == before else [result]


async def _watch(run: RunIdentifier) -> AsyncGenerator[list[Action]]:
    """Yield all actions of a run, then those that Flyte notifies of, until soon after its end.

    Parents come before their children. An action has its state, its parent, its group, and its
    task's short name.
    """
    unfinished, has_ended = set[str](), False
    while not has_ended:
        has_begun = False
        try:
            sent = initialised().client.run_service.watch_actions(WatchActionsRequest(run_id=run))
            async with aclosing(sent) as messages:
                while True:
                    seconds = UNFINISHED_SECONDS if unfinished else QUIET_SECONDS
                    async with asyncio.timeout(seconds if has_ended else None):
                        message = await anext(messages, None)
                    if message is None:
                        break
                    has_begun = True
                    actions = [_copied(each.action) for each in message.enriched_actions]
                    for action in actions:
                        is_done = remote.Action(action).done()
                        (unfinished.discard if is_done else unfinished.add)(action.id.name)
                        has_ended |= is_done and action.id.name == ROOT
                    yield actions
        except TimeoutError:
            return
        except ConnectError as error:
            # A proxy cuts off quiet streams; a notification of a child may overtake its parent's.
            is_cut = error.code is Code.UNAVAILABLE or "parent node" in str(error.message)
            if not (has_begun and is_cut):
                raise
        await asyncio.sleep(REOPEN_SECONDS)


def _copied(action: Action) -> Action:
    copy = Action()  # a part of a message keeps all of it in memory
    copy.CopyFrom(action)
    return copy

"""Watching all actions of a run, which Flyte's console does and the SDK cannot."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyte import remote
from flyte.models import ActionPhase
from flyteidl2.common.identifier_pb2 import RunIdentifier
from flyteidl2.workflow.run_service_pb2 import WatchActionsRequest

from ..limits import MAX_ACTIONS_AT_ONCE, MAX_REMEMBERED_ACTIONS
from .caller import initialised

ROOT = "a0"
"""The name of a run's first action."""

WAITING = {
    phase.to_protobuf_value()
    for phase in (
        ActionPhase.QUEUED,
        ActionPhase.WAITING_FOR_RESOURCES,
        ActionPhase.INITIALIZING,
    )
}
"""The phases in which an action waits for the cluster."""

PAUSE = 1.0
"""Seconds until a watch that has ended before its run is opened again."""


async def watch_actions(run: remote.Run) -> AsyncGenerator[list[remote.Action]]:
    """Yield the actions of a run: all of them at once, then those that have changed.

    Parents come before their children, and at most 1,000 actions at a time. One that waits for the
    cluster comes whenever Flyte sends it: what happens to it there may be new. An action has its
    state and its task's short name; `passthrough.watching` adds the rest. It ends with the run:
    when the root action has ended, and all others have ended or wait for an answer that nobody
    needs any more.

    Raises:
        ConnectError: Flyte's, such as DEADLINE_EXCEEDED if it does not send anything.
    """
    watched = _WatchedRun()
    while not watched.has_ended:
        has_begun = False
        try:
            async with aclosing(_actions(run.pb2.action.id.run)) as messages:
                async for actions in messages:
                    has_begun = True
                    if changed := [action for action in actions if watched.has_changed(action)]:
                        yield changed
                    if watched.has_settled:
                        return
        except ConnectError as error:  # as of a proxy that cuts off quiet streams
            if not has_begun or error.code is not Code.UNAVAILABLE:
                raise
        await asyncio.sleep(0 if watched.has_ended else PAUSE)


async def _actions(run: RunIdentifier) -> AsyncGenerator[list[remote.Action]]:
    stream = initialised().client.run_service.watch_actions(WatchActionsRequest(run_id=run))
    async with aclosing(stream) as messages:
        async for message in messages:
            found = message.enriched_actions
            for start in range(0, len(found), MAX_ACTIONS_AT_ONCE):
                part = found[start : start + MAX_ACTIONS_AT_ONCE]
                yield [remote.Action(each.action) for each in part]
                await asyncio.sleep(0)


class _WatchedRun:
    """What is known of a run's actions; they are kept as hashes, since their names may be large."""

    def __init__(self) -> None:
        self._states: dict[int, int] = {}
        self._in_progress: set[int] = set()
        self.has_ended = False
        """Whether the root action has."""

    @property
    def has_settled(self) -> bool:
        return self.has_ended and not self._in_progress

    def has_changed(self, action: remote.Action) -> bool:
        """Take note of an action, and tell whether its state is new."""
        key, state = hash(action.name), hash(action.pb2.SerializeToString())
        is_new = self._states.pop(key, None) != state
        self._states[key] = state
        if len(self._states) > MAX_REMEMBERED_ACTIONS:
            oldest = next(iter(self._states))
            del self._states[oldest]
            self._in_progress.discard(oldest)
        if action.done() or action.raw_phase == ActionPhase.PAUSED.to_protobuf_value():
            self._in_progress.discard(key)
        else:
            self._in_progress.add(key)
        self.has_ended = self.has_ended or (action.name == ROOT and action.done())
        return is_new or action.raw_phase in WAITING

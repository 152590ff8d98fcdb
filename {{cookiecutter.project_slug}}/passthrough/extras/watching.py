"""Watching a run and its actions."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

import anyio
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyte import remote
from flyte.models import ActionPhase
from flyteidl2.common.identifier_pb2 import RunIdentifier
from flyteidl2.workflow.run_definition_pb2 import Run
from flyteidl2.workflow.run_service_pb2 import WatchActionsRequest
from google.protobuf.message import Message

from ..calls.request_state import this_request
from ..calls.sdk import TooLargeError, initialised
from ..limits import limits
from ..models import FAILED, WAITING, phase_of
from .reading import call_each, listed_details, read_details, state_of

Result = TypeVar("Result")

ROOT = "a0"  # a run's first action
MERGED_SECONDS = 0.5  # between two looks at an action, of which Flyte notifies several times
WAITING_SECONDS = 10.0  # the same while it waits: its state does not say what the cluster does
QUIET_SECONDS = 2.0  # from a run's end, without news: Flyte may record an answer late
REOPEN_SECONDS = 1.0  # until a watch that has ended before its run is opened again


async def watch_run(run: remote.Run) -> AsyncGenerator[remote.Run]:
    """Yield a run's state, without its details, now and whenever it changes, until its end."""
    async with aclosing(watch_action(run.action, state_of)) as states:
        async for action in states:
            yield remote.Run(Run(action=action.pb2))


async def watch_action(
    action: remote.Action, read: Callable[[remote.ActionDetails], Result]
) -> AsyncGenerator[Result]:
    """Yield what is read from an action's details, now and whenever its state changes."""
    seen = 0
    async with aclosing(_watch(action.action_id.run)) as messages:
        async for actions in messages:
            for found in actions:
                if found.name == action.name:
                    before, seen = seen, _hash_of(found.pb2.status)
                    if seen != before:
                        yield await read_details(found, read)
                    if found.done():
                        return


async def watch_details(
    run: remote.Run, read: Callable[[remote.ActionDetails], Result]
) -> AsyncGenerator[Result]:
    """Yield what is read from the details of each action of a run, now and whenever it differs.

    After `Limits.watched_details`, only actions that fail or ask have more than a list has. It ends
    soon after the run (`QUIET_SECONDS`).
    """
    known, changed = dict[str, _Watched](), dict[str, remote.Action]()
    most, news = limits(), asyncio.Event()

    async def listen() -> None:
        async with aclosing(_watch(run.action.action_id.run)) as messages:
            async for actions in messages:
                for action in actions:
                    has_details = len(known) < most.watched_details
                    watched = known.setdefault(action.name, _Watched(has_details))
                    if watched.notice(action):
                        changed[action.name] = action
                news.set()

    async def fetch(name: str) -> list[Result]:
        action, watched = changed.pop(name), known[name]
        watched.fetched_at = time.monotonic()
        # Of an action that fails or asks, only the details say why, or what.
        if watched.has_details or phase_of(action.raw_phase) in FAILED | {ActionPhase.PAUSED}:
            try:
                result = await read_details(action, read)
            except TooLargeError:
                if not this_request().received.bytes:  # it is too large even alone
                    raise
                changed.setdefault(name, action)
                return []
        else:
            result = read(listed_details(action))
        before, watched.sent = watched.sent, hash(repr(result))
        return [] if watched.sent == before else [result]

    listening = asyncio.create_task(listen())
    listening.add_done_callback(lambda _: news.set())
    try:
        while changed or not listening.done():
            due = [n for n in changed if listening.done() or known[n].is_due(changed[n])]
            for result in chain.from_iterable(await call_each(fetch, due[: most.calls_at_once])):
                yield result
            this_request().sent_something()  # or has used them: no details are kept
            if not due:
                with anyio.move_on_after(MERGED_SECONDS if changed else None):
                    await news.wait()
                news.clear()
        await listening  # it may have failed
    finally:
        listening.cancel()
        try:
            await asyncio.gather(listening, return_exceptions=True)
        finally:
            del listening  # its exception may be in a cycle with this frame


def _hash_of(message: Message) -> int:
    """Return a hash of what Flyte has sent: a part of a message would keep all of it in memory."""
    return hash(message.SerializeToString(deterministic=True))


@dataclass
class _Watched:
    """What a viewer knows of an action, as hashes: actions would fill the memory."""

    has_details: bool
    state: int = 0
    sent: int = 0
    fetched_at: float = -math.inf

    def notice(self, action: remote.Action) -> bool:
        """Take a notification, and tell whether anything of the action may be new."""
        before, self.state = self.state, _hash_of(action.pb2)
        return self.state != before or phase_of(action.raw_phase) in WAITING

    def is_due(self, action: remote.Action) -> bool:
        """Tell whether the action may be fetched again."""
        is_waiting = phase_of(action.raw_phase) in WAITING
        pause = WAITING_SECONDS if is_waiting else MERGED_SECONDS
        return action.done() or time.monotonic() >= self.fetched_at + pause


async def _watch(run: RunIdentifier) -> AsyncGenerator[list[remote.Action]]:
    """Yield all actions of a run, then those that Flyte notifies of, until soon after its end.

    Parents come before their children. An action has its state, its parent, its group, and its
    task's short name.
    """
    has_ended = False
    while not has_ended:
        has_begun = False
        try:
            sent = initialised().client.run_service.watch_actions(WatchActionsRequest(run_id=run))
            async with aclosing(sent) as messages:
                while True:
                    async with asyncio.timeout(QUIET_SECONDS if has_ended else None):
                        message = await anext(messages, None)
                    if message is None:
                        break
                    has_begun = True
                    actions = [remote.Action(each.action) for each in message.enriched_actions]
                    has_ended |= any(found.name == ROOT and found.done() for found in actions)
                    yield actions
        except TimeoutError:
            return
        except ConnectError as error:
            # A proxy cuts off quiet streams; a notification of a child may overtake its parent's.
            is_cut = error.code is Code.UNAVAILABLE or "parent node" in str(error.message)
            if not (has_begun and is_cut):
                raise
        if not has_ended:
            await asyncio.sleep(REOPEN_SECONDS)

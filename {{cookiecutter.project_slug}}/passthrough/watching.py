"""Watching a run: what changes, with the details that Flyte's stream of changes lacks."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import aclosing
from itertools import islice
from typing import Any, Generic, TypeVar

from flyte import remote
from flyte.models import ActionPhase

from .calls.watching import watch_actions
from .limits import (
    MAX_ACTIONS_AT_ONCE,
    MAX_CALLS_AT_ONCE,
    MAX_REMEMBERED_ACTIONS,
    MAX_WATCHED_DETAILS,
)
from .lists import listed_details, read_details
from .models import phase_of

T = TypeVar("T")
Result = TypeVar("Result")

PAUSES = (0.5, 1.0, 2.0)
"""Seconds until an answer is looked for again after the run's end: Flyte may record it later."""

NEED_DETAILS = {ActionPhase.FAILED, ActionPhase.TIMED_OUT, ActionPhase.PAUSED}
"""Phases in which only the details say what matters: the error, or the question."""


async def watch_details(
    run: remote.Run, read: Callable[[remote.ActionDetails], Result]
) -> AsyncGenerator[Result]:
    """Yield what is read from the details of each action of a run, now and after each change.

    They are fetched ten at once, and yielded as they come. An action that changes faster than that
    is fetched in its latest state only, and one that is read as before is not yielded again. After
    500 actions, only those that fail or ask have more than a list has. It ends with the run, or a
    few seconds later if an answer is not recorded yet.
    """
    async with aclosing(_Watch(read).results(run)) as results:
        async for result in results:
            yield result


class _Watch(Generic[Result]):
    """The actions of a run that have changed, and the calls that fetch their details."""

    def __init__(self, read: Callable[[remote.ActionDetails], Result]) -> None:
        self._read = read
        self._changed: dict[str, remote.Action] = {}
        self._paused: dict[str, remote.Action] = {}
        self._fetching: dict[str, asyncio.Task[Result]] = {}
        # By hashes: names may be large.
        self._detailed: set[int] = set()
        self._yielded: dict[int, int] = {}
        self._news, self._room = asyncio.Event(), asyncio.Event()

    async def results(self, run: remote.Run) -> AsyncGenerator[Result]:
        watching = self._start(self._note_changes(run))
        try:
            while not watching.done() or self._changed or self._fetching:
                await self._news.wait()
                self._news.clear()
                for result in self._fetched():
                    yield result
                self._fetch()
            watching.result()  # it may have failed
        finally:
            for task in (watching, *self._fetching.values()):
                task.cancel()

    async def _note_changes(self, run: remote.Run) -> None:
        async with aclosing(watch_actions(run)) as changes:
            async for actions in changes:
                self._changed.update((action.name, action) for action in actions)
                self._news.set()
                if len(self._changed) >= MAX_ACTIONS_AT_ONCE:  # Flyte waits for a slow viewer
                    self._room.clear()
                    await self._room.wait()
        for pause in PAUSES:
            if self._paused:
                await asyncio.sleep(pause)
                self._changed.update(self._paused)
                self._news.set()

    def _fetch(self) -> None:
        free = MAX_CALLS_AT_ONCE - len(self._fetching)
        waiting = (name for name in self._changed if name not in self._fetching)
        for name in [*islice(waiting, free)]:
            details = self._details(self._changed.pop(name))
            self._fetching[name] = self._start(details)
        if len(self._changed) < MAX_ACTIONS_AT_ONCE:
            self._room.set()

    async def _details(self, action: remote.Action) -> Result:
        key, phase = hash(action.name), phase_of(action.raw_phase)
        if phase is ActionPhase.PAUSED and len(self._paused) < MAX_WATCHED_DETAILS:
            self._paused[action.name] = action
        has_room = key in self._detailed or len(self._detailed) < MAX_WATCHED_DETAILS
        if not has_room and phase not in NEED_DETAILS:
            return self._read_and_note(listed_details(action))
        self._detailed.add(key)
        return await read_details(action, self._read_and_note)

    def _read_and_note(self, details: remote.ActionDetails) -> Result:
        if phase_of(details.raw_phase) is not ActionPhase.PAUSED:
            self._paused.pop(details.name, None)
        return self._read(details)

    def _fetched(self) -> Iterator[Result]:
        for name in [name for name, task in self._fetching.items() if task.done()]:
            result = self._fetching.pop(name).result()
            key, state = hash(name), hash(repr(result))
            if self._yielded.pop(key, None) != state:
                yield result
            self._yielded[key] = state
            if len(self._yielded) > MAX_REMEMBERED_ACTIONS:
                del self._yielded[next(iter(self._yielded))]

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        def has_ended(task: asyncio.Task[T]) -> None:
            if not task.cancelled():
                task.exception()  # else asyncio may log it
            self._news.set()

        task = asyncio.create_task(work)
        task.add_done_callback(has_ended)
        return task

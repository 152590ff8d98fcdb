"""Watching a run: what changes, with the details that Flyte's stream of changes lacks."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from itertools import islice
from typing import Any, TypeVar

from flyte import remote
from flyte.models import ActionPhase

from .calls.watching import watch_actions
from .limits import MAX_CALLS_AT_ONCE, MAX_WATCHED_DETAILS
from .lists import listed_details, read_details
from .models import phase_of

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
    changed: dict[str, remote.Action] = {}
    paused: dict[str, remote.Action] = {}
    fetching: dict[str, asyncio.Task[Result]] = {}
    detailed: set[str] = set()
    yielded: dict[str, int] = {}  # hashes
    news = asyncio.Event()

    async def watch() -> None:
        async with aclosing(watch_actions(run)) as changes:
            async for actions in changes:
                for action in actions:
                    changed[action.name] = action
                    if phase_of(action.raw_phase) is ActionPhase.PAUSED:
                        paused[action.name] = action
                news.set()
        for pause in PAUSES:
            if paused:
                await asyncio.sleep(pause)
                changed.update(paused)
                news.set()

    def note(details: remote.ActionDetails) -> Result:
        if phase_of(details.raw_phase) is not ActionPhase.PAUSED:
            paused.pop(details.name, None)
        return read(details)

    async def fetch(action: remote.Action) -> Result:
        has_room = action.name in detailed or len(detailed) < MAX_WATCHED_DETAILS
        if not has_room and phase_of(action.raw_phase) not in NEED_DETAILS:
            return note(listed_details(action))
        detailed.add(action.name)
        return await read_details(action, note)

    def has_come(task: asyncio.Task[Any]) -> None:
        if not task.cancelled():
            task.exception()  # else asyncio may log it
        news.set()

    watching = asyncio.create_task(watch())
    watching.add_done_callback(has_come)
    try:
        while not watching.done() or changed or fetching:
            await news.wait()
            news.clear()
            for name in [name for name, task in fetching.items() if task.done()]:
                result = fetching.pop(name).result()
                state = hash(repr(result))
                if yielded.get(name) != state:
                    yielded[name] = state
                    yield result
            free = MAX_CALLS_AT_ONCE - len(fetching)
            for name in [*islice((name for name in changed if name not in fetching), free)]:
                fetching[name] = asyncio.create_task(fetch(changed.pop(name)))
                fetching[name].add_done_callback(has_come)
        watching.result()  # it may have failed
    finally:
        for task in (watching, *fetching.values()):
            task.cancel()

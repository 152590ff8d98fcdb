"""Watching a run: what changes, with the details that Flyte's stream of changes lacks."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from itertools import islice
from typing import Any, TypeVar

from flyte import remote
from flyte.models import ActionPhase

from .calls.watching import watch_actions
from .limits import MAX_CALLS_AT_ONCE
from .lists import read_details
from .models import phase_of

Result = TypeVar("Result")

PAUSES = (0.5, 1.0, 2.0)
"""Seconds until an answer is looked for again after the run's end: Flyte may record it later."""


def is_paused(action: remote.Action | remote.ActionDetails) -> bool:
    """Tell whether an action waits for an answer, as far as Flyte has recorded."""
    return phase_of(action.raw_phase) is ActionPhase.PAUSED


async def watch_details(
    run: remote.Run, read: Callable[[remote.ActionDetails], Result]
) -> AsyncGenerator[Result]:
    """Yield what is read from the details of each action of a run, now and after each change.

    They are fetched ten at once, and yielded as they come. An action that changes faster than that
    is fetched in its latest state only; one that is read as before is not yielded again. It ends
    with the run, and a few seconds later if an answer is not recorded yet.
    """
    changed: dict[str, remote.Action] = {}
    fetching: dict[str, asyncio.Task[Result]] = {}
    paused: dict[str, remote.Action] = {}
    yielded: dict[str, int] = {}
    news = asyncio.Event()

    async def watch() -> None:
        async with aclosing(watch_actions(run)) as changes:
            async for actions in changes:
                for each in actions:
                    changed[each.name] = each
                    if is_paused(each):
                        paused[each.name] = each
                news.set()
        for pause in PAUSES:
            if paused:
                await asyncio.sleep(pause)
                changed.update(paused)
                news.set()

    def read_and_note(details: remote.ActionDetails) -> Result:
        if not is_paused(details):
            paused.pop(details.name, None)
        return read(details)

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
            for name in [name for name, fetch in fetching.items() if fetch.done()]:
                result = fetching.pop(name).result()
                if yielded.get(name) != (state := hash(repr(result))):
                    yielded[name] = state
                    yield result
            free = MAX_CALLS_AT_ONCE - len(fetching)
            for name in [*islice((each for each in changed if each not in fetching), free)]:
                fetching[name] = asyncio.create_task(read_details(changed.pop(name), read_and_note))
                fetching[name].add_done_callback(has_come)
        watching.result()  # it may have failed
    finally:
        for task in (watching, *fetching.values()):
            task.cancel()

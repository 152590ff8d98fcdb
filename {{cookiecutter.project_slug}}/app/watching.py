"""Following a run: its states, and its log, for as long as somebody reads them.

Leave the block of a `contextlib.aclosing` around one of these generators, and no call to Flyte is
left of it.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TypeVar

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from fastapi import HTTPException
from flyte.models import ActionPhase
from flyteidl2.common.identifier_pb2 import ActionIdentifier
from flyteidl2.common.phase_pb2 import ACTION_PHASE_RUNNING
from flyteidl2.workflow.run_definition_pb2 import Action, ActionDetails
from flyteidl2.workflow.run_service_pb2 import WatchActionDetailsRequest

from .flyte_client import PAUSES, Flyte

Item = TypeVar("Item")

TICK = 15.0
"""Seconds of silence after which a generator yields None, so that its reader can show a sign of
life: proxies cut connections on which nothing moves for a minute or so."""

RENEWAL = 4
"""After so many times ``FLYTE_TIMEOUT`` of silence Flyte is asked again: silence is normal while a
task works, but it is also how a hung server looks."""

RECONNECTS = 5
"""How often in a row a stream that breaks is opened again."""

SUCCESSES = {ActionPhase.SUCCEEDED, ActionPhase.RECOVERED}

LOG_GONE = (
    "Flyte no longer has the log of this run: it is kept with the pod that the task ran in, and"
    " that is gone."
)


def phase_of(action: Action | ActionDetails) -> ActionPhase | None:
    """Read a phase; None is one that Flyte does not tell, or the app does not know."""
    try:
        return ActionPhase.from_protobuf(action.status.phase)
    except ValueError:
        return None


def has_ended(action: Action | ActionDetails) -> bool:
    """Tell whether the phase of an action is its last."""
    phase = phase_of(action)
    return phase is not None and phase.is_terminal


def has_succeeded(action: ActionDetails) -> bool:
    """Tell whether an action has succeeded, also while only its last attempt says so yet.

    An attempt that failed says nothing: there may be another.
    """
    last = action.attempts[-1].phase if action.attempts else None
    return phase_of(action) in SUCCESSES or last in {
        phase.to_protobuf_value() for phase in SUCCESSES
    }


async def states(flyte: Flyte, action_id: ActionIdentifier) -> AsyncGenerator[ActionDetails | None]:
    """Yield the state of an action now and whenever it may have changed, until it has ended.

    Raises:
        TimeoutError: If Flyte says nothing at all.
        ConnectError: What Flyte answers, also if it can't be reached again.
    """
    known, failures, renewals = False, 0, 0
    now = asyncio.get_running_loop().time
    while True:
        began, renewals = now(), renewals + 1
        try:
            async with aclosing(_watch(flyte, action_id)) as updates:
                async for state in updates:
                    known, failures = True, 0
                    yield state
                    if state and has_ended(state):
                        return
        except ConnectError as error:
            failures += 1
            tries = RECONNECTS if known else len(PAUSES)
            if error.code is not Code.UNAVAILABLE or failures > tries:
                raise
        # A stream may also end a little before the action has, or be worth renewing. If Flyte ends
        # each at once, it is asked ever more seldom.
        if now() - began >= min(TICK, flyte.timeout):
            renewals = 0
        await asyncio.sleep(PAUSES[0] * 2 ** min(max(failures, renewals - 1), RECONNECTS))


async def _watch(flyte: Flyte, action_id: ActionIdentifier) -> AsyncGenerator[ActionDetails | None]:
    """Subscribe once; end when Flyte ends it, or has been silent for long."""
    silence, is_new = 0.0, True
    tick = min(TICK, flyte.timeout)
    stream = flyte.runs.watch_action_details(WatchActionDetailsRequest(action_id=action_id))
    async with aclosing(with_silence(stream, tick)) as updates:
        async for update in updates:
            if update is not None:
                silence, is_new = 0.0, False
                yield update.details
                continue
            silence += tick
            if is_new and silence >= flyte.timeout:
                raise TimeoutError
            if silence >= RENEWAL * flyte.timeout:
                return
            if not is_new:
                yield None


async def log(
    flyte: Flyte, action_id: ActionIdentifier, skip: int = 0
) -> AsyncGenerator[list[str] | None]:
    """Yield the lines of an action's log as they are written, until it has ended.

    Args:
        flyte: Where it runs.
        action_id: Which action.
        skip: How many lines the reader has already.

    Raises:
        HTTPException: Status 410, if the action has ended and Flyte no longer has the log.
        TimeoutError: If Flyte does not answer.
        ConnectError: What Flyte answers, also if it can't be reached again.
    """
    root = await flyte.get_action(action_id)
    if not _has_begun(root):
        async with aclosing(states(flyte, action_id)) as found:
            async for state in found:
                yield None
                root = state or root
                if _has_begun(root):
                    break
    if has_ended(root) and not root.attempts:
        return  # it never ran
    shown, failures = 0, 0
    while True:
        seen = 0
        try:
            async with aclosing(_tail(flyte, root)) as batches:
                async for lines in batches:
                    new = (lines or [])[max(0, skip + shown - seen) :]
                    yield new or None
                    if lines:
                        seen, shown, failures = seen + len(lines), shown + len(new), 0
        except ConnectError as error:
            failures += 1
            tries = RECONNECTS if shown else len(PAUSES)
            if not await _may_come(flyte, action_id, error, failures <= tries):
                if shown or not _has_run(root):
                    return
                raise HTTPException(410, LOG_GONE) from None
        else:
            return
        yield None
        await asyncio.sleep(PAUSES[0] * 2 ** min(failures, RECONNECTS))


async def _may_come(
    flyte: Flyte, action_id: ActionIdentifier, error: ConnectError, tries_left: bool
) -> bool:
    """Tell whether to ask for a log again, or raise the error that it was refused with."""
    if error.code is Code.NOT_FOUND:  # there is no pod: not yet, or no longer
        return not has_ended(await flyte.get_action(action_id))
    if error.code is not Code.UNAVAILABLE or not tries_left:
        raise error
    return True


async def _tail(flyte: Flyte, root: ActionDetails) -> AsyncGenerator[list[str] | None]:
    """Subscribe once; end when Flyte ends it, or is silent though the action has ended."""
    silence, tick = 0.0, min(TICK, flyte.timeout)
    stream = await flyte.tail_logs(root.id, max(1, root.status.attempts))
    async with aclosing(with_silence(stream, tick, first_tick=tick / 15)) as batches:
        async for batch in batches:
            if batch is not None:
                silence = 0.0
                yield [line.message for part in batch.logs for line in part.lines]
                continue
            yield None
            silence += tick
            if silence >= flyte.timeout:
                silence = 0.0
                if has_ended(await flyte.get_action(root.id)):
                    return


def _has_begun(action: ActionDetails) -> bool:
    return has_ended(action) or phase_of(action) in {ActionPhase.RUNNING, ActionPhase.PAUSED}


def _has_run(action: ActionDetails) -> bool:
    """Tell whether there is, or was, a log. An abort adds an attempt to what was only queued."""
    if phase_of(action) in {ActionPhase.RUNNING, ActionPhase.PAUSED, ActionPhase.SUCCEEDED}:
        return True
    return any(
        attempt.logs_available
        or ACTION_PHASE_RUNNING in {each.phase for each in attempt.phase_transitions}
        for attempt in action.attempts
    )


async def with_silence(
    stream: AsyncIterator[Item], tick: float, first_tick: float | None = None
) -> AsyncGenerator[Item | None]:
    """Yield what a stream has, and None after every ``tick`` seconds in which it has nothing.

    The stream is always being waited for, also while this generator is at its ``yield``: so it can
    be cancelled, which ends it at once and all the way down. If what was waited for has come just
    then, cancelling does nothing, and the stream has to be closed.
    """
    coming = asyncio.ensure_future(anext(stream))
    try:
        seconds = first_tick or tick
        while True:
            done, _ = await asyncio.wait({coming}, timeout=seconds)
            seconds = tick
            if not done:
                yield None
                continue
            try:
                item = coming.result()
            except StopAsyncIteration:
                return
            coming = asyncio.ensure_future(anext(stream))
            yield item
    finally:
        coming.cancel()
        if not coming.done():
            await asyncio.wait({coming})
        if not coming.cancelled():
            coming.exception()  # has been seen
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()

"""Watching a run, its actions and their logs; waiting no longer than a request may."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, TypeVar, cast

import anyio
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from fastapi.sse import ServerSentEvent
from flyte import remote
from flyte.models import ActionPhase
from flyteidl2.common.identifier_pb2 import RunIdentifier
from flyteidl2.dataproxy.dataproxy_service_pb2 import TailLogsRequest
from flyteidl2.workflow.run_definition_pb2 import Run
from flyteidl2.workflow.run_service_pb2 import WatchActionsRequest
from google.protobuf.message import Message

from ..calls.request_calls import request_calls
from ..calls.sdk import FLYTE_ERRORS, TooLargeError, initialised
from ..http.exchange import cancelled_at_stop
from ..limits import limits
from ..models import FAILED, WAITING, is_answered, phase_of
from .reading import attempts_of, call_each, listed_details, read_details, state_of

Result = TypeVar("Result")

ROOT = "a0"  # a run's first action
MERGED_SECONDS = 0.5  # between two looks at an action, of which Flyte notifies several times
WAITING_SECONDS = 10.0  # the same while it waits: its state does not say what the cluster does
QUIET_SECONDS = 2.0  # from a run's end, without news: Flyte may record an answer late
REOPEN_SECONDS = 1.0  # until a watch that has ended before its run is opened again

LOG_ID = r"^([1-9]\d{0,8})-(\d{1,9}|gone)$"
"""The pattern of an event's id: the attempt; and the number of the message or part, or "gone"."""

PART_CHARS = 6 * 1024  # a longer message is yielded in parts
LINES_AT_ONCE = 20  # then others have their turn: Flyte may send 100,000 lines in one message
PAUSE_SECONDS, MAX_PAUSE_SECONDS = 2.0, 30.0  # until a log is asked for that Flyte did not have


async def wait_for(run: remote.Run, seconds: float) -> None:
    """Wait for a run's end, but not longer than this; update ``run`` to the latest state.

    Flyte's errors are ignored: the caller must learn in any case that the run was started.
    """
    if seconds and not run.done():
        async with best_effort(seconds):
            async for _ in run.watch():
                pass


async def wait_for_answer(condition: remote.ActionDetails) -> remote.ActionDetails:
    """Wait until a condition's answer is recorded, or the condition ends; return the details."""
    latest, states = condition, remote.ActionDetails.watch.aio(condition.action_id)
    async with aclosing(cast(Any, states)):
        async for latest in states:
            if is_answered(latest) or phase_of(latest.raw_phase) is not ActionPhase.PAUSED:
                break
    return latest


@asynccontextmanager
async def best_effort(seconds: float = math.inf) -> AsyncGenerator[None]:
    """Run the block for what it may add to an answer, which is given in any case.

    The block is left after these seconds, after ``FLYTE_TIMEOUT``, shortly before the request's
    deadline, when the server is asked to stop, or at any error of Flyte's.
    """
    calls = request_calls()
    left = 0.9 * calls.deadline.seconds_left()  # a tenth is left to write the answer
    with (
        suppress(*FLYTE_ERRORS),
        anyio.move_on_after(min(seconds, calls.deadline.timeout, left)) as limit,
    ):
        cancelled_at_stop.add(limit)
        try:
            yield
        finally:
            cancelled_at_stop.discard(limit)


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
                if not request_calls().received.bytes:  # it is too large even alone
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
            request_calls().has_sent()  # or has used them: no details are kept
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


async def follow_log(action: remote.Action, after: str = "1-0") -> AsyncGenerator[ServerSentEvent]:
    """Yield an action's log over all attempts, as it is written, until the action has ended.

    An event is a message, or a part of a long one; ``attempt``: a further attempt has begun; or
    ``unavailable``: Flyte no longer has the log of an attempt that has ended, or the rest of it.

    Args:
        action: The action, in any state.
        after: The ``id`` of the event yielded last, to go on after it.
    """
    number, _, shown = after.partition("-")
    attempt, log = int(number), _Log(action)
    while True:
        if shown != "gone":
            async with aclosing(log.of_attempt(attempt, int(shown))) as sent:
                async for event in sent:
                    yield event
        await log.until(partial(log.has_ended, attempt))
        if log.attempts <= attempt:
            return
        attempt, shown = attempt + 1, "0"
        yield ServerSentEvent(event="attempt", id=f"{attempt}-0", data={"attempt": attempt})


class _Log:
    """The log of an action. While that waits for the cluster, only its state is watched."""

    def __init__(self, action: remote.Action) -> None:
        self._action = action
        self._note(listed_details(action))

    def _note(self, details: remote.ActionDetails) -> None:
        self.attempts = max(1, attempts_of(details.pb2))
        self.is_done = details.done()
        self.is_running = phase_of(details.raw_phase) is ActionPhase.RUNNING

    def has_ended(self, attempt: int) -> bool:
        """Tell whether this attempt has."""
        return self.is_done or self.attempts > attempt

    async def until(self, condition: Callable[[], bool], seconds: float | None = None) -> None:
        """Watch the action until its state meets a condition, or until the time is over."""
        if condition():
            return
        with suppress(TimeoutError):
            async with (
                asyncio.timeout(seconds),
                aclosing(watch_action(self._action, self._note)) as states,
            ):
                async for _ in states:
                    if condition():
                        return
            self.is_done = True  # nothing more will come

    async def of_attempt(self, attempt: int, after: int) -> AsyncGenerator[ServerSentEvent]:
        """Yield the log of an attempt, after so many of its events, or that it is gone."""
        place, pause, has_ended = after, PAUSE_SECONDS, partial(self.has_ended, attempt)
        while True:
            await self.until(lambda: self.is_running or has_ended())
            was_over = has_ended()
            try:
                async with aclosing(self._texts(attempt, place)) as texts:
                    async for place, text in texts:
                        yield ServerSentEvent(id=f"{attempt}-{place}", raw_data=text)
            except ConnectError as error:
                if error.code is not Code.NOT_FOUND:
                    raise
            else:
                return
            if was_over:
                about = {"attempt": attempt}
                yield ServerSentEvent(event="unavailable", id=f"{attempt}-gone", data=about)
                return
            # The attempt's pod has not begun, or has just gone.
            await self.until(has_ended, pause)
            pause = min(3 * pause, MAX_PAUSE_SECONDS)

    async def _texts(self, attempt: int, shown: int) -> AsyncGenerator[tuple[int, str]]:
        """Yield the messages, or parts of long ones, after so many, with their numbers."""
        place, asked = 0, TailLogsRequest(action_id=self._action.action_id, attempt=attempt)
        async with aclosing(initialised().client.dataproxy_service.tail_logs(asked)) as messages:
            async for message in messages:
                for line in chain.from_iterable(log.lines for log in message.logs):
                    text = line.message.rstrip("\r\n")
                    for start in range(0, len(text) or 1, PART_CHARS):
                        place += 1
                        if place % LINES_AT_ONCE == 0:
                            await asyncio.sleep(0)
                        if place > shown:
                            yield place, text[start : start + PART_CHARS]

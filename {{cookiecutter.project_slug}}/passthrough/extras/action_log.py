"""The log of an action over all of its attempts."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyte import remote
from flyte.models import ActionPhase
from flyteidl2.dataproxy.dataproxy_service_pb2 import TailLogsRequest

from ..calls.caller import initialised
from ..models import phase_of
from .reading import attempts_of, listed_details
from .watching import watch_action

LOG_ID = r"^([1-9]\d{0,8})-(\d{1,9}|gone)$"
"""The pattern of `LogEvent.id`: the attempt, and the number of the message or part."""

PART_CHARS = 6 * 1024  # a longer message is yielded in parts
LINES_AT_ONCE = 20  # then others have their turn: Flyte may send 100,000 lines in one message
PAUSE_SECONDS, MAX_PAUSE_SECONDS = 2.0, 30.0  # until a log is asked for that Flyte did not have


@dataclass(frozen=True)
class LogEvent:
    """A message of a log, or a part of a long one; ``attempt``: that a further attempt has begun.

    ``unavailable``: Flyte no longer has the log of an attempt that has ended, or the rest of it.
    """

    kind: Literal["line", "attempt", "unavailable"]
    id: str
    attempt: int
    text: str = ""


async def follow_log(action: remote.Action, after: str = "1-0") -> AsyncGenerator[LogEvent]:
    """Yield an action's log over all attempts, as it is written, until the action has ended.

    Args:
        action: The action, in any state.
        after: The ``id`` of what was yielded last, to go on after it.

    Raises:
        ConnectError: Flyte's; UNAVAILABLE if it cut the log off.
    """
    first, _, shown = after.partition("-")
    log, number = _Log(action), int(first)
    while True:
        async with aclosing(log.follow(number, shown)) as events:
            async for event in events:
                yield event
        if log.attempts <= number:
            return
        number, shown = number + 1, "0"
        yield LogEvent("attempt", f"{number}-0", number)


class _Log:
    """The log of an action, and what it depends on: its attempts, and whether it is running.

    While the action waits for the cluster, its state is watched, and the log is not asked for.
    """

    def __init__(self, action: remote.Action) -> None:
        self._action = remote.Action(action.pb2)  # without its details
        self._note(listed_details(action))

    def _note(self, details: remote.ActionDetails) -> None:
        self.attempts = max(1, attempts_of(details.pb2))
        self._is_done = details.done()
        self._is_running = phase_of(details.raw_phase) is ActionPhase.RUNNING

    async def follow(self, number: int, seen: str) -> AsyncGenerator[LogEvent]:
        """Yield the log of an attempt, after so many messages, until the attempt has ended."""

        def has_ended() -> bool:
            return self._is_done or self.attempts > number

        pause = PAUSE_SECONDS
        while seen != "gone":
            await self._watch_until(lambda: self._is_running or has_ended())
            was_over, place = has_ended(), 0
            try:
                async with aclosing(_texts(self._action, number)) as texts:
                    async for text in texts:
                        place += 1
                        if place % LINES_AT_ONCE == 0:
                            await asyncio.sleep(0)
                        if place > int(seen):
                            seen = str(place)
                            yield LogEvent("line", f"{number}-{seen}", number, text)
                break
            except ConnectError as error:
                if error.code is not Code.NOT_FOUND:
                    raise
            if was_over:
                seen = "gone"
                yield LogEvent("unavailable", f"{number}-gone", number)
            else:  # the attempt's pod has not begun, or has just gone
                await self._watch_until(has_ended, pause)
                pause = min(3 * pause, MAX_PAUSE_SECONDS)
        await self._watch_until(has_ended)

    async def _watch_until(
        self, condition: Callable[[], bool], seconds: float | None = None
    ) -> None:
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
            self._is_done = True  # nothing more will come


async def _texts(action: remote.Action, attempt: int) -> AsyncGenerator[str]:
    asked = TailLogsRequest(action_id=action.action_id, attempt=attempt)
    async with aclosing(initialised().client.dataproxy_service.tail_logs(asked)) as messages:
        async for message in messages:
            for line in chain.from_iterable(log.lines for log in message.logs):
                text = line.message.rstrip("\r\n")
                for start in range(0, len(text) or 1, PART_CHARS):
                    yield text[start : start + PART_CHARS]

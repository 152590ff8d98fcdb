"""The log of an action over all of its attempts."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from flyte import remote
from flyte.errors import LogsNotYetAvailableError

from ..calls.errors import TooLargeError
from ..limits import MAX_ATTEMPTS, MAX_LOG_EVENT_CHARS
from .runs import attempts_of

LOG_ID = r"^(1000|[1-9]\d{0,2})-(\d{1,9}|gone)$"
"""The pattern of the ``id`` of what `follow_log` yields, of up to `MAX_ATTEMPTS` attempts."""

MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 1.0, 30.0
"""While an attempt's end is not recorded: between looks at its state, longer each time."""

LATE_SECONDS = 2.0
"""A pause before which Flyte usually records the end of an attempt whose log has ended."""


@dataclass(frozen=True)
class LogEvent:
    """What `follow_log` yields."""

    kind: Literal["line", "attempt", "unavailable"]
    """A message, or a part of a long one; that a further attempt has begun; or that Flyte no longer
    has the log of an attempt that has ended, or the rest of it."""
    id: str
    """Identifies it in the log of the action, to go on after it."""
    attempt: int
    text: str = ""


async def follow_log(action: remote.Action, after: str = "1-0") -> AsyncGenerator[LogEvent]:
    """Yield an action's log over all attempts, as it is written, until the action has ended.

    Args:
        action: The action as it was fetched.
        after: The ``id`` of what was yielded last, to go on after it.

    Raises:
        ConnectError: Flyte's; UNAVAILABLE if it cut the log off.
        TooLargeError: There are more than `MAX_ATTEMPTS`.
    """
    first, shown = after.split("-")
    for number in range(int(first), MAX_ATTEMPTS + 1):
        if number > int(first):
            shown = "0"
            yield LogEvent("attempt", f"{number}-0", number)
        attempt, pause = _Attempt(action, number, shown), MIN_PAUSE_SECONDS
        # Flyte ends the log with the attempt's pod, and records the attempt's end later. If that
        # takes long, the log may have ended for another reason: then it is read again, now and
        # then, and for the last time when the attempt has ended.
        while True:
            if not attempt.read_to_end or pause == MAX_PAUSE_SECONDS:
                async for line in attempt.read():
                    yield line
            if await attempt.has_ended():
                break
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE_SECONDS) if attempt.read_to_end else MIN_PAUSE_SECONDS
        if not attempt.read_to_end:
            yield LogEvent("unavailable", f"{number}-gone", number)
        elif pause > LATE_SECONDS:
            async for line in attempt.read():
                yield line
        if await attempt.is_the_last():
            return
        action = attempt.action
    raise TooLargeError(f"the action has more than {MAX_ATTEMPTS} attempts")


class _Attempt:
    """An attempt of an action: how much of its log has been shown, and whether it has ended."""

    def __init__(self, action: remote.Action, number: int, shown: str) -> None:
        self.action, self._number = action, number
        self.read_to_end = shown == "gone"  # as far as it can be
        self._shown = 0 if self.read_to_end else int(shown)

    async def read(self) -> AsyncGenerator[LogEvent]:
        """Read the log from its start until Flyte ends it, and yield what has not been shown."""
        number = 0
        with suppress(LogsNotYetAvailableError):
            async for text in _texts(self.action, self._number):
                number += 1
                if number > self._shown:
                    self._shown = number
                    yield LogEvent("line", f"{self._number}-{number}", self._number, text)
            self.read_to_end = True

    async def has_ended(self) -> bool:
        """Tell whether the attempt has ended; ask Flyte, unless that is known."""
        if not self.action.done() and await self.is_the_last():
            name, run = self.action.name, self.action.run_name
            self.action = await remote.Action.get.aio(run_name=run, name=name)
        return self.action.done() or not await self.is_the_last()

    async def is_the_last(self) -> bool:
        """Tell whether the action, as it was fetched, has no further attempt."""
        return attempts_of((await self.action.details()).pb2) <= self._number


async def _texts(action: remote.Action, attempt: int) -> AsyncGenerator[str]:
    async for message in action.get_logs.aio(attempt):
        text = message.removeprefix(" ").rstrip("\r\n")  # the SDK puts a space before each
        for start in range(0, len(text) or 1, MAX_LOG_EVENT_CHARS):
            yield text[start : start + MAX_LOG_EVENT_CHARS]

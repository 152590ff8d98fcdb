"""The log of an action over all of its attempts."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from flyte import remote
from flyte.errors import LogsNotYetAvailableError

from ..limits import MAX_ATTEMPTS, MAX_LOG_EVENT_CHARS
from .errors import TooLargeError
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
        TooLargeError: There are more than 1,000 attempts.
    """
    start, told = after.split("-")
    attempts = attempts_of((await action.details()).pb2)
    for attempt in range(int(start), MAX_ATTEMPTS + 1):
        if attempt > int(start):
            yield LogEvent("attempt", f"{attempt}-0", attempt)
        is_complete = told == "gone"  # as far as it can be
        seen, pause, has_ended = 0 if is_complete else int(told), MIN_PAUSE_SECONDS, False
        while True:
            # Flyte ends the log with the attempt's pod, and records the attempt's end later. If
            # that takes long, the log may have ended for another reason: then it is read again, at
            # the latest when the attempt has ended.
            if not is_complete or has_ended or pause == MAX_PAUSE_SECONDS:
                number = 0
                with suppress(LogsNotYetAvailableError):
                    async for text in _texts(action, attempt):
                        number += 1
                        if number > seen:
                            seen = number
                            yield LogEvent("line", f"{attempt}-{number}", attempt, text)
                    is_complete = True
            if has_ended:
                break
            if not action.done() and attempts <= attempt:
                action = await remote.Action.get.aio(run_name=action.run_name, name=action.name)
                attempts = attempts_of((await action.details()).pb2)
            has_ended = action.done() or attempts > attempt
            if not has_ended:
                await asyncio.sleep(pause)
                pause = min(2 * pause, MAX_PAUSE_SECONDS) if is_complete else MIN_PAUSE_SECONDS
            elif not is_complete or pause <= LATE_SECONDS:
                break
        if not is_complete:
            yield LogEvent("unavailable", f"{attempt}-gone", attempt)
        if attempts <= attempt:
            return
        told = "0"
    raise TooLargeError(f"the action has more than {MAX_ATTEMPTS} attempts")


async def _texts(action: remote.Action, attempt: int) -> AsyncGenerator[str]:
    async for message in action.get_logs.aio(attempt):
        text = message.removeprefix(" ").rstrip("\r\n")  # the SDK puts a space before each
        for start in range(0, len(text) or 1, MAX_LOG_EVENT_CHARS):
            yield text[start : start + MAX_LOG_EVENT_CHARS]

"""A function that follows the log of an action over all attempts."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, suppress
from itertools import chain

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from fastapi.sse import ServerSentEvent
from flyte import remote
from flyte.models import ActionPhase
from flyteidl2.dataproxy.dataproxy_service_pb2 import TailLogsRequest, TailLogsResponse

from ..calls.request_state import this_request
from ..calls.sdk import initialised
from ..models import phase_of
from .watching import watch_action

LOG_ID = r"^([1-9]\d{0,8})-(\d{1,9}|gone)$"
"""Regular expression for the event ids of `follow_log`.

An id has the number of the attempt, a hyphen, and the number of the event in this attempt. The id
of an event ``unavailable`` has ``gone`` instead of the number of the event.

Example:
    >>> import re
    >>> bool(re.match(LOG_ID, "1-0")), bool(re.match(LOG_ID, "0-1"))
    (True, False)
"""

PART_CHARS = 6 * 1024  # maximum characters of one event; a longer line becomes several events
# While Flyte has no log of an attempt, the app calls Flyte again after these pauses.
PAUSE_SECONDS, MAX_PAUSE_SECONDS = 2.0, 30.0  # first and longest pause


async def follow_log(action: remote.Action, after: str = "1-0") -> AsyncGenerator[ServerSentEvent]:
    """Follow the log of an action over all attempts while it is written.

    Args:
        action: The action, such as an `ActionDep`. The action may be waiting or running, or may
            have ended.
        after: The ``id`` of the last event that the client has received (`LOG_ID`). The iterator
            begins after this event. By default, it begins with the first event of the log.

    Yields:
        Events of three kinds. An event without a name contains a line of the log, or a part of a
        long line. An event ``attempt`` means that a further attempt has begun. An event
        ``unavailable`` means that an attempt has ended, and Flyte no longer has the log of this
        attempt, or the rest of the log. The iterator ends when the action has ended and the log has
        been read.

    Raises:
        ConnectError: Flyte refuses the call (401 or 403), or fails (503). After the first event of
            an event stream, the app sends the error as the last event.

    Example:
        @router.get("/runs/{name}/log", response_class=EventSourceResponse)
        async def log(action: ActionDep) -> AsyncGenerator[ServerSentEvent]:
            async with aclosing(follow_log(action)) as events:
                async for event in events:
                    yield event
    """
    attempt, _, position = after.partition("-")
    log = _Log(action, int(attempt))
    while True:
        if position != "gone":
            async with aclosing(log.read_events(int(position))) as events:
                async for event in events:
                    yield event
        await log.wait_until(log.has_ended)
        if not log.has_next():
            return
        log.attempt, position = log.attempt + 1, "0"
        yield ServerSentEvent(event="attempt", id=f"{log.attempt}-0", data={"attempt": log.attempt})


class _Log:
    """The log of one attempt of an action. Flyte has no log before the attempt runs."""

    def __init__(self, action: remote.Action, attempt: int) -> None:
        self.attempt = attempt
        self._action, self._is_over = action, False

    def has_next(self) -> bool:
        """Return whether a further attempt of the action has begun."""
        return bool(self._action.pb2.status.attempts > self.attempt)

    def has_ended(self) -> bool:
        """Return whether the attempt has ended."""
        return self._is_over or self._action.done() or self.has_next()

    def _may_have_begun(self) -> bool:
        return phase_of(self._action.raw_phase) is ActionPhase.RUNNING or self.has_ended()

    async def wait_until(self, condition: Callable[[], bool], seconds: float | None = None) -> None:
        """Watch the action until ``condition`` returns true, or until ``seconds`` have passed."""
        if condition():
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), aclosing(watch_action(self._action)) as states:
                async for self._action in states:
                    if condition():
                        return
            self._is_over = True  # the watch has ended, so the action will no longer change

    async def read_events(self, after: int) -> AsyncGenerator[ServerSentEvent]:
        """Yield the events of the attempt whose number is greater than ``after``.

        If Flyte no longer has the log, the last event is ``unavailable``.
        """
        last, pause = after, PAUSE_SECONDS
        while True:
            await self.wait_until(self._may_have_begun)
            was_over = self.has_ended()
            try:
                async with aclosing(self._read_texts(last)) as texts:
                    async for last, text in texts:
                        yield ServerSentEvent(id=f"{self.attempt}-{last}", raw_data=text)
            except ConnectError as error:
                if error.code is not Code.NOT_FOUND:
                    raise
            else:
                return
            if was_over:
                yield ServerSentEvent(
                    event="unavailable", id=f"{self.attempt}-gone", data={"attempt": self.attempt}
                )
                return
            # Flyte has no log, because the pod has not started yet, or has just been removed.
            await self.wait_until(self.has_ended, pause)
            pause = min(3 * pause, MAX_PAUSE_SECONDS)

    async def _read_texts(self, after: int) -> AsyncGenerator[tuple[int, str]]:
        """Yield the number and the text of each event whose number is greater than ``after``."""
        texts, number = deque[str](), 0
        request = TailLogsRequest(action_id=self._action.action_id, attempt=self.attempt)
        messages = initialised().client.dataproxy_service.tail_logs(request)
        async with aclosing(messages):
            with this_request().calls.call_at_end(texts.clear):
                while message := await anext(messages, None):
                    texts.extend(_parts_of(message))
                    message = None
                    # The SDK keeps the last message in memory, so replace it by an empty message.
                    await anext(messages)
                    this_request().received = 0
                    while texts:
                        number, text = number + 1, texts.popleft()
                        if number > after:
                            yield number, text


def _parts_of(message: TailLogsResponse) -> Iterator[str]:
    for line in chain.from_iterable(log.lines for log in message.logs):
        text = line.message.rstrip("\r\n")
        for start in range(0, len(text) or 1, PART_CHARS):
            yield text[start : start + PART_CHARS]

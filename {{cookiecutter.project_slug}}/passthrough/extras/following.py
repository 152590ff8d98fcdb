"""Following an action's log, over all its attempts."""

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
"""The pattern of an event's id: the attempt; and the number of the message or part, or "gone"."""

PART_CHARS = 6 * 1024  # a longer message is yielded in parts
LINES_AT_ONCE = 20  # then others have their turn: Flyte may send 100,000 lines in one message
PARTS_AT_ONCE = 1000  # the same while they are copied
PAUSE_SECONDS, MAX_PAUSE_SECONDS = 2.0, 30.0  # before a missing log is asked for again


async def follow_log(action: remote.Action, after: str = "1-0") -> AsyncGenerator[ServerSentEvent]:
    """Yield an action's log over all attempts, as it is written, until the action has ended.

    An event is a message, or a part of a long one; ``attempt``: a further attempt has begun; or
    ``unavailable``: Flyte no longer has the log of an attempt that has ended, or the rest of it.

    Args:
        action: The action, in any state.
        after: The ``id`` of the event yielded last, to go on after it.
    """
    attempt, _, shown = after.partition("-")
    log = _Log(action, int(attempt))
    while True:
        if shown != "gone":
            async with aclosing(log.of_attempt(int(shown))) as sent:
                async for event in sent:
                    yield event
        await log.until(log.has_ended)
        if not log.has_next():
            return
        log.attempt, shown = log.attempt + 1, "0"
        yield ServerSentEvent(event="attempt", id=f"{log.attempt}-0", data={"attempt": log.attempt})


class _Log:
    """The log of an attempt. While it waits for the cluster, only the action's state is watched."""

    def __init__(self, action: remote.Action, attempt: int) -> None:
        self.attempt = attempt
        self._action, self._is_over = action, False

    def has_next(self) -> bool:
        """Tell whether a further attempt has begun."""
        return bool(self._action.pb2.status.attempts > self.attempt)

    def has_ended(self) -> bool:
        """Tell whether the attempt has ended."""
        return self._is_over or self._action.done() or self.has_next()

    def _may_have_begun(self) -> bool:
        return phase_of(self._action.raw_phase) is ActionPhase.RUNNING or self.has_ended()

    async def until(self, condition: Callable[[], bool], seconds: float | None = None) -> None:
        """Watch the action until its state meets a condition, or until the time is over."""
        if condition():
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), aclosing(watch_action(self._action)) as states:
                async for self._action in states:
                    if condition():
                        return
            self._is_over = True  # nothing more will come

    async def of_attempt(self, after: int) -> AsyncGenerator[ServerSentEvent]:
        """Yield the log after this many events, or say that it is gone."""
        place, pause = after, PAUSE_SECONDS
        while True:
            await self.until(self._may_have_begun)
            was_over = self.has_ended()
            try:
                async with aclosing(self._texts(place)) as texts:
                    async for place, text in texts:
                        yield ServerSentEvent(id=f"{self.attempt}-{place}", raw_data=text)
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
            # The attempt's pod has not begun, or has just gone.
            await self.until(self.has_ended, pause)
            pause = min(3 * pause, MAX_PAUSE_SECONDS)

    async def _texts(self, shown: int) -> AsyncGenerator[tuple[int, str]]:
        """Yield the messages, or parts of long ones, after so many, with their numbers."""
        texts, place = deque[str](), 0
        asked = TailLogsRequest(action_id=self._action.action_id, attempt=self.attempt)
        messages = initialised().client.dataproxy_service.tail_logs(asked)
        async with aclosing(messages):
            with this_request().at_end(texts.clear):
                while message := await anext(messages, None):
                    for number, text in enumerate(_parts_of(message)):
                        texts.append(text)
                        if number % PARTS_AT_ONCE == 0:
                            await asyncio.sleep(0)
                    message = None
                    await anext(messages)  # an empty one: the SDK keeps the last
                    this_request().received = 0
                    while texts:
                        place, text = place + 1, texts.popleft()
                        if place % LINES_AT_ONCE == 0:
                            await asyncio.sleep(0)
                        if place > shown:
                            yield place, text


def _parts_of(message: TailLogsResponse) -> Iterator[str]:
    for line in chain.from_iterable(log.lines for log in message.logs):
        text = line.message.rstrip("\r\n")
        for start in range(0, len(text) or 1, PART_CHARS):
            yield text[start : start + PART_CHARS]

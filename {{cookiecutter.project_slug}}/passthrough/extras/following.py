"""Following an action's log, over all its attempts."""

import asyncio
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, suppress
from functools import partial
from itertools import chain

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from fastapi.sse import ServerSentEvent
from flyte import remote
from flyte.models import ActionPhase
from flyteidl2.dataproxy.dataproxy_service_pb2 import TailLogsRequest, TailLogsResponse

from ..calls.request_state import this_request
from ..calls.sdk import initialised
from ..calls.turns import LARGE_BYTES
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
    number, _, shown = after.partition("-")
    attempt, log = int(number), _Log(action)
    while True:
        if shown != "gone":
            async with aclosing(log.of_attempt(attempt, int(shown))) as sent:
                async for event in sent:
                    yield event
        await log.until(partial(log.has_ended, attempt))
        if log.attempts() <= attempt:
            return
        attempt, shown = attempt + 1, "0"
        yield ServerSentEvent(event="attempt", id=f"{attempt}-0", data={"attempt": attempt})


class _Log:
    """The log of an action. While that waits for the cluster, only its state is watched."""

    def __init__(self, action: remote.Action) -> None:
        self._action, self._is_over = action, False

    def attempts(self) -> int:
        """Return the number of attempts so far."""
        return max(1, self._action.pb2.status.attempts)

    def has_ended(self, attempt: int) -> bool:
        """Tell whether this attempt has."""
        return self._is_over or self._action.done() or self.attempts() > attempt

    def _is_running(self) -> bool:
        return phase_of(self._action.raw_phase) is ActionPhase.RUNNING

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

    async def of_attempt(self, attempt: int, after: int) -> AsyncGenerator[ServerSentEvent]:
        """Yield the log of an attempt, after so many of its events, or that it is gone."""
        place, pause, has_ended = after, PAUSE_SECONDS, partial(self.has_ended, attempt)
        while True:
            await self.until(lambda: self._is_running() or has_ended())
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
        state, texts = this_request(), deque[str]()
        messages = initialised().client.dataproxy_service.tail_logs(asked)
        async with aclosing(messages):
            with state.at_end(texts.clear):
                while message := await anext(messages, None):
                    size = 0
                    for number, text in enumerate(_parts_of(message)):
                        texts.append(text)
                        size += sys.getsizeof(text)  # with what an empty one takes
                        if number % PARTS_AT_ONCE == 0:
                            await asyncio.sleep(0)
                    message = None
                    await anext(messages)  # an empty one: the SDK keeps the last
                    state.turn.keeps_line = size > LARGE_BYTES
                    while texts:
                        place, text = place + 1, texts.popleft()
                        if place % LINES_AT_ONCE == 0:
                            await asyncio.sleep(0)
                        if place > shown:
                            yield place, text
                    state.turn.keeps_line = False
                    state.done_with_messages()


def _parts_of(message: TailLogsResponse) -> Iterator[str]:
    for line in chain.from_iterable(log.lines for log in message.logs):
        text = line.message.rstrip("\r\n")
        for start in range(0, len(text) or 1, PART_CHARS):
            yield text[start : start + PART_CHARS]

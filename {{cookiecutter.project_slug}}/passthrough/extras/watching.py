"""Functions to watch runs and actions, and to wait for runs and answers."""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, asynccontextmanager, contextmanager, nullcontext, suppress
from itertools import islice
from typing import Generic, TypeVar

import anyio
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyte import remote
from flyte.models import ActionPhase
from flyteidl2.common.identifier_pb2 import RunIdentifier
from flyteidl2.workflow.run_definition_pb2 import Action, Run
from flyteidl2.workflow.run_service_pb2 import WatchActionsRequest, WatchActionsResponse

from ..calls.request_state import called_at_stop, this_request
from ..calls.sdk import FLYTE_ERRORS, initialised
from ..models import FAILED, WAITING, is_answered, phase_of
from .reading import (
    CALLS_AT_ONCE,
    call_each,
    fetch_condition,
    listed_details,
    read_details,
    remove_unbounded,
    state_of,
)

Result = TypeVar("Result")

ROOT = "a0"  # name of the root action of each run
MAX_PENDING_BYTES = 256 * 1024  # maximum size of the states that a viewer has not sent yet
WATCHED_DETAILS = 500  # number of actions whose details `watch_details` fetches at every change
# Flyte may report one change several times, so the app pauses between two fetches of the details of
# an action. The pause is longer if the action waits for the cluster.
MERGED_SECONDS, WAITING_SECONDS = 0.5, 10.0
# After the end of a run, a watch ends when Flyte has sent no update for this time. The answer to a
# condition may arrive after the end of the run.
QUIET_SECONDS = 2.0
POLL_SECONDS = 0.1  # first pause between two fetches of a condition
MAX_POLL_SECONDS = 2.0  # longest pause between two fetches of a condition
REOPEN_SECONDS = 1.0  # pause before the app opens an interrupted watch again


async def watch_run(run: remote.Run) -> AsyncGenerator[remote.Run]:
    """Watch the state of a run.

    Args:
        run: The run, such as a `RunDep`.

    Yields:
        A ``remote.Run`` with the state but no details, immediately and after each change. The
        iterator ends when the run ends.

    Raises:
        ConnectError: Flyte refuses the call (401, 403 or 404), or fails (503). After the first
            event of an event stream, the app sends the error as the last event.

    Example:
        @router.get("/runs/{name}/phases", response_class=EventSourceResponse)
        async def phases(run: RunDep) -> AsyncGenerator[ServerSentEvent]:
            async with aclosing(watch_run(run)) as states:
                async for state in states:
                    yield ServerSentEvent(data=phase_of(state.raw_phase))
    """
    async with aclosing(watch_action(run.action)) as states:
        async for action in states:
            yield remote.Run(Run(action=action.pb2))


async def watch_action(action: remote.Action) -> AsyncGenerator[remote.Action]:
    """Yield the state of an action, immediately and after each change, until the action ends."""
    last = b""
    async with aclosing(_watch(action.action_id.run, action.name)) as messages:
        async for states in messages:
            for state in states.values():
                if state != last:
                    last = state
                    yield await read_details(_action(state), state_of)


async def wait_for(run: remote.Run, seconds: float) -> None:
    """Wait for the end of a run for a limited time, then update ``run`` in place.

    Args:
        run: The run.
        seconds: The maximum time to wait; with 0, the function does nothing. `FLYTE_TIMEOUT` and
            the deadline of the request also limit the wait, so ``math.inf`` is allowed. If the JSON
            body of the request has more than 128 kB, the function does nothing, because the request
            holds a memory slot.

    Raises:
        ConnectError: Flyte refuses the call (401, 403 or 404), or fails (503). If this request has
            started the run, the function ignores errors of Flyte, because the response must contain
            the name of the run.

    Example:
        @router.get("/runs/{name}/finished")
        async def finished(run: RunDep) -> bool:
            await wait_for(run, 10)
            return run.done()
    """
    if not seconds or run.done() or this_request().holds_body():
        return
    this_request().release_messages()
    is_started_here = this_request().run == run.name
    with suppress(*FLYTE_ERRORS if is_started_here else ()), _time_limit(seconds):
        async with aclosing(_watch(run.action.action_id.run, ROOT)) as messages:
            async for _ in messages:
                pass
    async with best_effort() if is_started_here else nullcontext():
        run.action = await read_details(run.action, state_of)
        run.pb2 = Run(action=run.action.pb2)


async def wait_for_answer(condition: remote.ActionDetails) -> remote.ActionDetails:
    """Wait until Flyte has recorded the answer to a condition, or the condition has ended.

    Flyte records an answer a moment after the caller has sent it, sometimes even after the end of
    the run, and does not notify watches. Therefore this function fetches the condition repeatedly.
    Limit the time with `best_effort`.

    Args:
        condition: The details, from `fetch_condition`.

    Returns:
        The latest details. The condition may have ended without an answer.

    Raises:
        ConnectError: Flyte refuses the call; the response has the status 401, 403 or 404.

    Example:
        @router.get("/runs/{name}/questions/{action}/wait")
        async def wait(name: str, action: str) -> Condition:
            details = await fetch_condition(name, action)
            async with best_effort(0.1):
                details = await wait_for_answer(details)
            return Condition.of(details)
    """
    pause = POLL_SECONDS
    while not is_answered(condition) and phase_of(condition.raw_phase) is ActionPhase.PAUSED:
        await asyncio.sleep(pause)
        pause = min(2 * pause, MAX_POLL_SECONDS)
        condition = await fetch_condition(condition.run_name, condition.name)
    return condition


@asynccontextmanager
async def best_effort(seconds: float = math.inf) -> AsyncGenerator[None]:
    """Run a block whose failure must not fail the response.

    Args:
        seconds: The maximum time for the block.

    Yields:
        Once, without a value. The block ends early if a call to Flyte fails, after the time
        ``FLYTE_TIMEOUT``, shortly before the request's deadline, or when the server shuts down.

    Example:
        @router.get("/runs/{name}/outputs")
        async def outputs(run: RunDep) -> dict[str, Any] | None:
            outputs = None
            async with best_effort(5):
                _, outputs = await fetch_data(run)
            return outputs
    """
    with suppress(*FLYTE_ERRORS), _time_limit(seconds):
        yield


@contextmanager
def _time_limit(seconds: float) -> Generator[None]:
    """Cancel the block after ``seconds``; see `best_effort` for reasons to cancel it earlier."""
    deadline = this_request().deadline
    left = 0.9 * deadline.seconds_left()  # leave a tenth of the time for sending the response
    with anyio.move_on_after(min(seconds, deadline.timeout, left)) as limit:
        called_at_stop[limit.cancel] = asyncio.get_running_loop()
        try:
            yield
        finally:
            called_at_stop.pop(limit.cancel, None)


async def watch_details(
    run: remote.Run, read: Callable[[remote.ActionDetails], Result]
) -> AsyncGenerator[Result]:
    """Watch the actions of a run.

    Args:
        run: The run, such as a `RunDep`.
        read: Function that returns the result for the details of one action, such as ``Action.of``.
            The result must not refer to the details or to parts of them, because details can be
            large and would stay in memory.

    Yields:
        The result of ``read`` for each action of the run, then for each action that may have
        changed. The function fetches the details of the first 500 actions, and of all actions that
        fail or wait for an answer. For other actions, the function calls ``read`` with the result
        of `listed_details`. The iterator ends when the run has ended and there is no update for two
        seconds.

    Raises:
        ConnectError: Flyte refuses the call (401, 403 or 404), or fails (503). After the first
            event of an event stream, the app sends the error as the last event.

    Example:
        @router.get("/runs/{name}/changes", response_class=EventSourceResponse)
        async def changes(run: RunDep) -> AsyncGenerator[ServerSentEvent]:
            async with aclosing(watch_details(run, Action.of)) as actions:
                async for action in actions:
                    yield ServerSentEvent(data=action)
    """
    viewer, request, results = _Viewer(read), this_request(), deque[Result]()
    listening = asyncio.create_task(viewer.listen(run.action.action_id.run))
    listening.add_done_callback(lambda _: viewer.updated.set())
    try:
        calls = request.calls  # a traceback may hold this frame, so clear large objects at the end
        with calls.call_at_end(viewer.changed.clear), calls.call_at_end(results.clear):
            while viewer.changed or not listening.done():
                due = viewer.due(ignore_pauses=listening.done())
                results.extend(await call_each(viewer.fetch, due) if due else ())
                while results:
                    yield results.popleft()
                if not due:
                    with anyio.move_on_after(MERGED_SECONDS if viewer.changed else None):
                        await viewer.updated.wait()
                    viewer.updated.clear()
            await listening  # raises the error if the watch has failed
    finally:
        listening.cancel()
        try:
            await asyncio.gather(listening, return_exceptions=True)
        finally:
            del listening  # break a reference cycle between the task's exception and this frame


class _Viewer(Generic[Result]):
    """Collects the changed actions of a run for one client, and fetches their details."""

    def __init__(self, read: Callable[[remote.ActionDetails], Result]) -> None:
        self.changed = dict[str, bytes]()  # maps an action to its state that is not yet sent
        self.updated = asyncio.Event()
        self._read = read
        self._known = dict[str, int]()  # maps an action to the hash of its latest state
        self._fetched_at = dict[str, float]()  # time of the last fetch of details, by action

    async def listen(self, run: RunIdentifier) -> None:
        """Collect the states of changed actions; pause while they exceed `MAX_PENDING_BYTES`."""
        async with aclosing(_watch(run)) as messages:
            async for states in messages:
                for name, state in states.items():
                    has_changed = self._known.get(name) != hash(state)
                    self._known[name] = hash(state)
                    if has_changed or (name in self._fetched_at and _is_waiting(state)):
                        self.changed[name] = state
                states.clear()
                self.updated.set()
                while sum(map(len, self.changed.values())) > MAX_PENDING_BYTES:  # noqa: ASYNC110
                    await asyncio.sleep(MERGED_SECONDS)

    def due(self, *, ignore_pauses: bool) -> list[str]:
        """Return the names of the next actions to fetch.

        Args:
            ignore_pauses: Whether to include actions that the app has fetched less than
                `MERGED_SECONDS` or `WAITING_SECONDS` ago.
        """
        now = time.monotonic()

        def may_be_fetched(name: str) -> bool:
            pause = WAITING_SECONDS if _is_waiting(self.changed[name]) else MERGED_SECONDS
            return ignore_pauses or now >= self._fetched_at.get(name, -math.inf) + pause

        return [*islice(filter(may_be_fetched, self.changed), CALLS_AT_ONCE)]

    async def fetch(self, name: str) -> Result:
        """Return the result of ``read`` for a changed action."""
        action = _action(self.changed.pop(name))
        if is_watched := name in self._fetched_at or len(self._fetched_at) < WATCHED_DETAILS:
            self._fetched_at[name] = time.monotonic()
        # Only details contain the error of an action and the question of a condition.
        if is_watched or phase_of(action.raw_phase) in FAILED | {ActionPhase.PAUSED}:
            return await read_details(action, self._read)
        return self._read(listed_details(action))


def _action(state: bytes) -> remote.Action:
    return remote.Action(Action.FromString(state))


def _is_waiting(state: bytes) -> bool:
    return phase_of(_action(state).raw_phase) in WAITING


async def _watch(run: RunIdentifier, only: str = "") -> AsyncGenerator[dict[str, bytes]]:
    """Yield serialised actions by name: all actions of a run, then the actions that have changed.

    If ``only`` is the name of an action, yield only this action. The iterator ends when this action
    ends, or soon after the end of the run (`QUIET_SECONDS`). A parent comes before its children.
    Each action contains the state, the parent, the group and the short name of the task, but no
    further details. Actions are serialised, because a reference to a part of a message would keep
    the message in memory.
    """
    # `seconds_left` is None until the run or the action ``only`` has ended. After that,
    # `seconds_left` is the maximum time to wait for the next update.
    seconds_left: float | None = None

    def copy_states(message: WatchActionsResponse) -> dict[str, bytes]:
        nonlocal seconds_left
        states = dict[str, bytes]()
        for action in (enriched.action for enriched in message.enriched_actions):
            name = action.id.name
            if name in {ROOT, only} and remote.Action(action).done():
                seconds_left = 0 if name == only else QUIET_SECONDS
            if only in {"", name}:
                remove_unbounded(action.metadata)
                states[name] = action.SerializeToString(deterministic=True)
        return states

    while seconds_left is None:
        has_begun = False
        try:
            watch = initialised().client.run_service.watch_actions(WatchActionsRequest(run_id=run))
            async with aclosing(watch) as messages:
                while True:
                    async with asyncio.timeout(seconds_left):
                        message = await anext(messages, None)
                    if message is None:
                        break
                    has_begun = True
                    states = copy_states(message)
                    message = None
                    this_request().release_messages()
                    yield states
        except TimeoutError:
            return
        except ConnectError as error:
            # Open the watch again in two cases. A proxy may have closed the idle stream, or Flyte
            # may have failed because the update of a child came before the update of its parent.
            is_cut = error.code is Code.UNAVAILABLE or "parent node" in str(error.message)
            if not (has_begun and is_cut):
                raise
        if seconds_left is None:
            await asyncio.sleep(REOPEN_SECONDS)

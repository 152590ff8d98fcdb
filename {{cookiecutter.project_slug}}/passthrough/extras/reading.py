"""Functions that fetch lists, details, data, conditions and reports from Flyte."""

import asyncio
import sys
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from typing import Any, TypeVar

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyte import remote
from flyte.models import ActionPhase
from flyteidl2.common.identifier_pb2 import ActionAttemptIdentifier
from flyteidl2.core.types_pb2 import LiteralType
from flyteidl2.dataproxy import dataproxy_service_pb2 as pb
from flyteidl2.workflow.run_definition_pb2 import Action, ActionDetails, ActionMetadata

from ..calls.json_values import json_of
from ..calls.request_state import this_request
from ..calls.sdk import TooLargeError, initialised
from ..limits import current_limits, limits
from ..models import HAS_OUTPUTS, attempts_of, phase_of

NEWEST_FIRST = ("created_at", "desc")
"""Sort order of a list, for the argument ``sort_by`` of the SDK's functions.

Example:
    @router.get("/newest")
    async def newest() -> list[str]:
        runs = remote.Run.listall.aio(sort_by=NEWEST_FIRST, limit=5)
        return [run.name for run in await take(runs, 5)]
"""
CALLS_AT_ONCE = 10  # maximum number of concurrent calls to Flyte for the entries of one list
ERRORS_OF_ALL_ENTRIES = {Code.UNAUTHENTICATED, Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED}
FULL_TEXT_ENTRIES = 10
"""Up to this number of entries, each text of a list may have `Limits.max_text_chars`. The texts of
a longer list are truncated earlier, because a response holds all texts in memory."""

T = TypeVar("T")
Result = TypeVar("Result")


async def take(entries: AsyncIterable[T], count: int, skip: int = 0) -> list[T]:
    """Read some entries of one of the SDK's lists.

    Args:
        entries: The list, such as ``remote.Run.listall.aio()``.
        count: The maximum number of entries to return.
        skip: The number of entries to omit first, for pagination.

    Returns:
        The entries. The function fetches only the pages of the list that it needs.

    Raises:
        ConnectError: Flyte refuses the call; the response has the status 401, 403 or 404.

    Example:
        @router.get("/names-of-runs")
        async def names(offset: int = 0) -> list[str]:
            runs = await take(remote.Run.listall.aio(), 10, skip=offset)
            return [run.name for run in runs]
    """
    result = list[T]()
    async for entry in entries:
        if skip:
            skip -= 1
        else:
            result.append(entry)
        if len(result) == count:
            break
    return result


async def call_each(
    function: Callable[[T], Awaitable[Result]], arguments: Iterable[T]
) -> list[Result]:
    """Call a function with each argument, up to ten at a time, and return the results in order.

    If one call fails, cancel the other calls.
    """
    slots = asyncio.Semaphore(CALLS_AT_ONCE)

    async def call(argument: T) -> Result:
        async with slots:
            return await function(argument)

    # Do not use a TaskGroup. A cancelled TaskGroup keeps messages in memory, because its exception
    # is in a reference cycle.
    calls = [asyncio.create_task(call(argument)) for argument in arguments]
    try:
        return await asyncio.gather(*calls)
    finally:
        for task in calls:
            task.cancel()


@contextmanager
def skip_unreadable() -> Generator[None]:
    """Skip the rest of the block if Flyte reports an error about one entry of a list."""
    try:
        yield
    except ConnectError as error:
        # A MessageTooLargeError means that one entry is too large. A plain TooLargeError means that
        # all messages of the request together are too large, so further entries would fail too.
        if error.code in ERRORS_OF_ALL_ENTRIES or type(error) is TooLargeError:
            raise


def listed_details(action: Any) -> remote.ActionDetails:
    """Copy the fields of an action that Flyte returns in a list.

    Args:
        action: An action from a list of actions, conditions or runs.

    Returns:
        Details without attempts, error and task, because a list does not contain these fields. The
        details are a copy, because a reference to an entry would keep the whole page of the list in
        memory.

    Example:
        @router.get("/runs/{name}/quick")
        async def quick(name: str) -> list[Action]:
            actions = await take(remote.Action.listall.aio(name), 10)
            return [Action.of(listed_details(action)) for action in actions]
    """
    pb2 = action.pb2
    metadata = bounded_metadata(pb2.metadata)
    return remote.ActionDetails(ActionDetails(id=pb2.id, metadata=metadata, status=pb2.status))


def bounded_metadata(metadata: ActionMetadata) -> ActionMetadata:
    """Copy metadata without the fields that `remove_unbounded` removes."""
    bounded = ActionMetadata()
    bounded.CopyFrom(metadata)
    remove_unbounded(bounded)
    return bounded


def remove_unbounded(metadata: ActionMetadata) -> None:
    """Remove metadata that may be large and that no endpoint returns."""
    metadata.ClearField("trigger_type")
    if metadata.condition.HasField("type"):
        # Copy only `simple`, because the SDK reads no other field of a condition's type.
        metadata.condition.type.CopyFrom(LiteralType(simple=metadata.condition.type.simple))


async def read_details(
    action: remote.Action | remote.ActionDetails, read: Callable[[remote.ActionDetails], Result]
) -> Result:
    """Fetch the details of a listed action, and return the result of ``read``.

    If Flyte cannot return the details, call ``read`` with the result of `listed_details`. For
    example, Flyte has no details of an action that has just been enqueued.
    """
    details = listed_details(action)
    with skip_unreadable():
        details = await remote.ActionDetails.get_details.aio(action.action_id)
    result = read(details)  # the result does not refer to the details, so release the details now
    this_request().release_messages()
    return result


async def fetch_details(
    actions: Iterable[Any], read: Callable[[remote.ActionDetails], Result]
) -> list[Result]:
    """Fetch the details of listed actions, up to ten at a time.

    Args:
        actions: Actions from a list, or the root actions of runs.
        read: Function that returns the result for the details of one action, such as ``Action.of``.
            The result must not refer to the details or to parts of them, because details can be
            large and would stay in memory.

    Returns:
        The results of ``read``, in the order of the actions. `Limits.max_received_bytes` applies to
        each action separately. If Flyte has no details of an action, or the details are too large,
        the function calls ``read`` with the result of `listed_details`.
        If there are more than ten actions, each `TruncatedText` is shorter
        (`Limits.max_text_chars`).

    Raises:
        ConnectError: Flyte fails for all actions; the response has the status 401, 503 or 504.

    Example:
        @router.get("/runs/{name}/parts")
        async def parts(name: str) -> list[Action]:
            actions = await take(remote.Action.listall.aio(name), 10)
            return await fetch_details(actions, Action.of)
    """
    listed = [listed_details(action) for action in actions]
    this_request().received = 0
    chars = limits().max_text_chars
    chars = min(chars, FULL_TEXT_ENTRIES * chars // max(1, len(listed)))

    async def fetch(action: remote.ActionDetails) -> Result:
        current_limits.set(replace(limits(), max_text_chars=chars))  # for this task only
        return await read_details(action, read)

    return await call_each(fetch, listed)


def state_of(details: remote.ActionDetails) -> remote.Action:
    """Copy the state of an action from its details, which may be large.

    Args:
        details: The details of the action.

    Returns:
        The action with the phase, the times and the number of attempts.

    Example:
        @router.get("/runs/{name}/state")
        async def state(name: str) -> bool:
            details = await remote.ActionDetails.get.aio(run_name=name, name="a0")
            return state_of(details).done()
    """
    pb2 = details.pb2
    metadata = bounded_metadata(pb2.metadata)
    state = remote.Action(Action(id=pb2.id, metadata=metadata, status=pb2.status))
    state.pb2.status.attempts = attempts_of(pb2)
    return state


async def fetch_data(run: remote.Run) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Fetch the inputs and outputs of a run.

    Unlike ``run.inputs`` and ``run.outputs`` of the SDK, this function does not fetch the details
    of the run.

    Args:
        run: The run, such as a `RunDep`.

    Returns:
        The inputs and the outputs, as JSON values by name. If the run has not succeeded, the
        outputs are None. If JSON cannot hold a value, the value is a reference (docs/values.md).

    Raises:
        ConnectError: Flyte refuses the call; the response has the status 401, 403 or 404.
        TooLargeError: The data exceed `Limits.max_message_bytes`; the response has the status 413.

    Example:
        @router.get("/runs/{name}/result")
        async def result(run: RunDep) -> dict[str, Any]:
            inputs, outputs = await fetch_data(run)
            return {"inputs": inputs, "outputs": outputs}
    """
    request = pb.GetActionDataRequest(action_id=run.action.action_id)
    data = await initialised().client.dataproxy_service.get_action_data(request)
    inputs, outputs = await json_of(data.inputs), await json_of(data.outputs)
    has_outputs = phase_of(run.raw_phase) in HAS_OUTPUTS
    return inputs, (outputs or {"o0": None}) if has_outputs else None


async def fetch_paused_runs(**filters: Any) -> AsyncIterator[remote.Run]:
    """Fetch the runs that have a condition waiting for an answer.

    Args:
        filters: Further arguments of ``remote.Run.listall``, such as ``task_name``.

    Yields:
        The runs, newest first. The iterator ends after the last run.

    Raises:
        ConnectError: Flyte refuses the call; the response has the status 401, 403 or 404.

    Example:
        @router.get("/paused")
        async def paused() -> list[str]:
            return [run.name for run in await take(fetch_paused_runs(), 10)]
    """
    runs = remote.Run.listall.aio(
        paused_actions_only=True, sort_by=NEWEST_FIRST, limit=sys.maxsize, **filters
    )
    async for run in runs:
        if not run.done():  # Flyte also lists runs that have failed while a condition waited
            yield run


async def fetch_paused_actions(limit: int) -> list[remote.Action]:
    """Fetch the actions of conditions that wait for an answer.

    Args:
        limit: The maximum number of actions to return, and of runs to search.

    Returns:
        The actions, newest first. The function searches the newest runs that have such conditions.

    Raises:
        ConnectError: Flyte refuses the call; the response has the status 401 or 403.

    Example:
        @router.get("/inbox")
        async def inbox() -> list[Condition]:
            return await fetch_details(await fetch_paused_actions(20), Condition.of)
    """

    async def fetch_paused(name: str) -> list[remote.Action]:
        with skip_unreadable():  # a run may have been deleted since Flyte listed it
            actions = remote.Action.listall.aio(
                name, in_phase=(ActionPhase.PAUSED,), sort_by=NEWEST_FIRST
            )
            return [state_of(listed_details(action)) for action in await take(actions, limit)]
        return []

    names = [run.name for run in await take(fetch_paused_runs(), limit)]
    actions = chain.from_iterable(await call_each(fetch_paused, names))
    newest = sorted(actions, key=lambda action: -action.pb2.status.start_time.seconds)
    return newest[:limit]


async def fetch_conditions(run: str, count: int, skip: int = 0) -> list[remote.Action]:
    """Fetch the conditions of a run as actions.

    Args:
        run: The name of the run.
        count: The maximum number of actions to return.
        skip: The number of actions to omit first, for pagination.

    Returns:
        The actions. Conditions that wait for an answer come first.

    Raises:
        ConnectError: Flyte has no such run (404), or the caller may not see it (403).

    Example:
        @router.get("/runs/{name}/questions")
        async def questions(name: str) -> list[Condition]:
            return await fetch_details(await fetch_conditions(name, 20), Condition.of)
    """
    paused = ActionPhase.PAUSED.to_protobuf_value()
    waiting, others = list[bytes](), list[bytes]()
    async for condition in remote.Condition.listall.aio(run):
        state = state_of(listed_details(condition))
        states = waiting if state.raw_phase == paused else others
        # A serialised action takes 60 bytes; a decoded action takes 1,700 bytes.
        states.append(state.pb2.SerializeToString())
    page = (waiting + others)[skip : skip + count]
    return [remote.Action(Action.FromString(state)) for state in page]


async def fetch_condition(run: str, action: str) -> remote.ActionDetails:
    """Fetch the details of a condition's action.

    Args:
        run: The name of the run.
        action: The name of the action. This function does not check that the action is a condition.

    Returns:
        The details to pass to ``Condition.of``, `is_answered`, `answer_of` or `wait_for_answer`.
        Large fields that these functions do not read are omitted.

    Raises:
        ConnectError: Flyte has no such action (404), or the caller may not see it (403).

    Example:
        @router.get("/runs/{name}/questions/{action}/prompt")
        async def prompt(name: str, action: str) -> str:
            return Condition.of(await fetch_condition(name, action)).prompt
    """
    pb2 = (await remote.ActionDetails.get.aio(run_name=run, name=action)).pb2
    remove_unbounded(pb2.metadata)
    if pb2.HasField("condition"):
        pb2.condition.type.CopyFrom(LiteralType(simple=pb2.condition.type.simple))
    if pb2.HasField("signal_info") and not pb2.signal_info.output.scalar.HasField("primitive"):
        pb2.signal_info.ClearField("output")
    copy = ActionDetails()
    copy.CopyFrom(pb2)
    this_request().release_messages()
    return remote.ActionDetails(copy)


async def fetch_report_url(action: remote.Action) -> str:
    """Fetch the URL of an action's report, which Flyte signs for the caller.

    Redirect the browser to the URL, and do not log it, because anyone who has it can read the
    report until it expires.

    Args:
        action: The action, such as an `ActionDep`.

    Returns:
        The URL.

    Raises:
        ConnectError: The action has no report; the response has the status 404.

    Example:
        @router.get("/runs/{name}/has-report")
        async def has_report(action: ActionDep) -> bool:
            try:
                return bool(await fetch_report_url(action))
            except ConnectError as error:
                if error.code is Code.NOT_FOUND:
                    return False
                raise
    """
    number = action.pb2.status.attempts
    attempt = ActionAttemptIdentifier(action_id=action.action_id, attempt=number)
    request = pb.CreateDownloadLinkRequest(
        artifact_type=pb.ARTIFACT_TYPE_REPORT, action_attempt_id=attempt
    )
    response = await initialised().client.dataproxy_service.create_download_link(request)
    url = next(iter(response.pre_signed_urls.signed_url), "")
    if not url:
        raise ConnectError(Code.NOT_FOUND, f"the action {action.name} has no report")
    return str(url)

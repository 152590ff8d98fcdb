"""Reading lists with few calls at once; attempts, questions and reports, which the SDK lacks."""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable
from contextlib import contextmanager
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
from ..models import HAS_OUTPUTS, attempts_of, phase_of

NEWEST_FIRST = ("created_at", "desc")
CALLS_AT_ONCE = 10  # for the details of a list's entries
MOST_RUNS = 500  # that ask, whose owners take turns
NOT_ABOUT_ONE_ENTRY = {Code.UNAUTHENTICATED, Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED}

T = TypeVar("T")
Result = TypeVar("Result")


async def take(found: AsyncIterable[T], count: int, skip: int = 0) -> list[T]:
    """Return this many entries of one of the SDK's lists; pages that are not needed stay unread."""
    taken = list[T]()
    async for entry in found:
        if skip:
            skip -= 1
        else:
            taken.append(entry)
        if len(taken) == count:
            break
    return taken


async def call_each(
    function: Callable[[T], Awaitable[Result]], arguments: Iterable[T]
) -> list[Result]:
    """Call a function with each argument, some at once, and return the results in order.

    If one call fails, the others are cancelled.
    """
    at_once = asyncio.Semaphore(CALLS_AT_ONCE)

    async def call(argument: T) -> Result:
        async with at_once:
            return await function(argument)

    # Not a TaskGroup: if it is cancelled, its exception is in a cycle, which keeps messages.
    calls = [asyncio.create_task(call(argument)) for argument in arguments]
    try:
        return await asyncio.gather(*calls)
    finally:
        for task in calls:
            task.cancel()


@contextmanager
def skip_unreadable() -> Generator[None]:
    """Skip the rest of the block if Flyte cannot answer for one entry of a list."""
    try:
        yield
    except ConnectError as error:
        # A MessageTooLargeError is about one entry; a TooLargeError is about all that has come.
        if error.code in NOT_ABOUT_ONE_ENTRY or type(error) is TooLargeError:
            raise


def listed_details(action: Any) -> remote.ActionDetails:
    """Return a copy of what a list has of an action: a part would keep the page in memory."""
    pb2 = action.pb2
    leave_out_large(pb2.metadata)
    return remote.ActionDetails(ActionDetails(id=pb2.id, metadata=pb2.metadata, status=pb2.status))


def leave_out_large(metadata: ActionMetadata) -> None:
    """Remove what people can make large, by many small parts, and nobody shows."""
    metadata.ClearField("trigger_type")
    if metadata.condition.HasField("type"):  # of which the SDK needs only simple
        metadata.condition.type.CopyFrom(LiteralType(simple=metadata.condition.type.simple))


async def read_details(
    action: remote.Action | remote.ActionDetails, read: Callable[[remote.ActionDetails], Result]
) -> Result:
    """Fetch the details of a listed action, and return what is read from them.

    If Flyte has none yet, as for a child just enqueued, read what the list has.
    """
    details = listed_details(action)
    with skip_unreadable():
        details = await remote.ActionDetails.get_details.aio(action.action_id)
    result = read(details)  # at once, because details may be large
    this_request().release_messages()
    return result


async def fetch_details(
    actions: Iterable[Any], read: Callable[[remote.ActionDetails], Result]
) -> list[Result]:
    """Fetch the details of listed actions, and return what is read from them.

    `Limits.max_received_bytes` holds for each action alone, so large details of one action do not
    hide the others.
    """
    listed = [listed_details(action) for action in actions]
    this_request().received = 0
    return await call_each(lambda action: read_details(action, read), listed)


def state_of(details: remote.ActionDetails) -> remote.Action:
    """Return a copy of an action's state, with its attempts: its details may be large."""
    pb2 = details.pb2
    leave_out_large(pb2.metadata)
    state = remote.Action(Action(id=pb2.id, metadata=pb2.metadata, status=pb2.status))
    state.pb2.status.attempts = attempts_of(pb2)
    return state


async def fetch_data(run: remote.Run) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return a run's inputs, and its outputs once it has succeeded, as JSON by their names.

    The SDK's ``run.inputs`` and ``run.outputs`` fetch the run's details, too, and keep them.
    """
    asked = pb.GetActionDataRequest(action_id=run.action.action_id)
    data = await initialised().client.dataproxy_service.get_action_data(asked)
    inputs, outputs = await json_of(data.inputs), await json_of(data.outputs)
    has_outputs = phase_of(run.raw_phase) in HAS_OUTPUTS
    return inputs, (outputs or {"o0": None}) if has_outputs else None


async def fetch_paused_runs(**filters: Any) -> AsyncIterator[remote.Run]:
    """List the runs that wait for an answer, the newest first."""
    runs = remote.Run.listall.aio(
        paused_actions_only=True, sort_by=NEWEST_FIRST, limit=sys.maxsize, **filters
    )
    async for run in runs:
        if not run.done():  # Flyte also lists those that have failed while they asked
            yield run


async def fetch_paused_actions(limit: int) -> list[remote.Action]:
    """Return up to `limit` waiting actions of the newest 500 runs that ask, the newest first.

    If there are more, those who started the runs take turns: nobody's questions hide another's.
    """

    async def paused(name: str) -> list[remote.Action]:
        with skip_unreadable():  # a run that was deleted meanwhile hides no other
            listed = remote.Action.listall.aio(
                name, in_phase=(ActionPhase.PAUSED,), sort_by=NEWEST_FIRST
            )
            return [state_of(listed_details(action)) for action in await take(listed, limit)]
        return []

    def newest_first(actions: Iterable[remote.Action]) -> list[remote.Action]:
        return sorted(actions, key=lambda action: -action.pb2.status.start_time.seconds)

    owners = dict[str, str]()
    async for run in fetch_paused_runs():
        person = run.pb2.action.metadata.executed_by
        owners[run.name] = person.user.id.subject or person.application.id.subject
        if len(owners) == MOST_RUNS:
            break
    found = await call_each(paused, _in_turns(owners, owners.__getitem__)[:limit])
    newest = newest_first(chain.from_iterable(found))
    return newest_first(_in_turns(newest, lambda action: owners[action.run_name])[:limit])


def _in_turns(entries: Iterable[T], owner_of: Callable[[T], str]) -> list[T]:
    """Return each owner's first entry, then each owner's second one, and so on."""
    turns = Counter[str]()

    def turn(entry: T) -> int:
        turns[owner_of(entry)] += 1
        return turns[owner_of(entry)]

    return sorted(entries, key=turn)


async def fetch_conditions(run: str, count: int, skip: int = 0) -> list[remote.Action]:
    """Return this many of a run's conditions: first those that wait, then the rest.

    A run may ask tens of thousands of questions, so a caller lists one run's at a time.
    """
    paused = ActionPhase.PAUSED.to_protobuf_value()
    waiting, others = list[bytes](), list[bytes]()
    async for condition in remote.Condition.listall.aio(run):
        state = state_of(listed_details(condition))
        found = waiting if state.raw_phase == paused else others
        found.append(state.pb2.SerializeToString())  # 60 bytes; as a message it takes 1,700
    chosen = (waiting + others)[skip : skip + count]
    return [remote.Action(Action.FromString(state)) for state in chosen]


async def fetch_condition(run: str, action: str) -> remote.ActionDetails:
    """Fetch the details of an action; a condition's without what people can make large."""
    pb2 = (await remote.ActionDetails.get.aio(run_name=run, name=action)).pb2
    leave_out_large(pb2.metadata)
    if pb2.HasField("condition"):
        pb2.condition.type.CopyFrom(LiteralType(simple=pb2.condition.type.simple))
    if pb2.HasField("signal_info") and not pb2.signal_info.output.scalar.HasField("primitive"):
        pb2.signal_info.ClearField("output")
    copy = ActionDetails()
    copy.CopyFrom(pb2)
    this_request().release_messages()
    return remote.ActionDetails(copy)


async def fetch_report_url(action: remote.Action) -> str:
    """Return the address of the report of an `ActionDep`, which Flyte signs for the caller.

    Redirect the browser there. Whoever has the address can read the report: don't log it. If there
    is no report, the error is NOT_FOUND.
    """
    number = action.pb2.status.attempts
    attempt = ActionAttemptIdentifier(action_id=action.action_id, attempt=number)
    answer = await initialised().client.dataproxy_service.create_download_link(
        pb.CreateDownloadLinkRequest(
            artifact_type=pb.ARTIFACT_TYPE_REPORT, action_attempt_id=attempt
        )
    )
    address = next(iter(answer.pre_signed_urls.signed_url), "")
    if not address:
        raise ConnectError(Code.NOT_FOUND, f"the action {action.name} has no report")
    return str(address)

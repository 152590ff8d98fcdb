"""Reading lists with few calls at once; attempts, questions and reports, which the SDK lacks."""

import asyncio
import sys
from collections import defaultdict
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable
from contextlib import contextmanager
from itertools import chain, zip_longest
from typing import Any, TypeVar

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyte import remote
from flyte.models import ActionPhase
from flyteidl2.common.identifier_pb2 import ActionAttemptIdentifier
from flyteidl2.dataproxy import dataproxy_service_pb2 as pb
from flyteidl2.workflow.run_definition_pb2 import Action, ActionDetails

from ..calls.request_state import Turns, this_request
from ..calls.sdk import TooLargeError, initialised
from ..limits import limits
from ..models import Identity, attempts_of

NEWEST_FIRST = ("created_at", "desc")
RUNS_THAT_ASK = 500  # runs whose owners take turns
NOT_ABOUT_ONE_ENTRY = {Code.UNAUTHENTICATED, Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED}

T = TypeVar("T")
Result = TypeVar("Result")

_turns = Turns()


async def take(found: AsyncIterable[T], count: int, skip: int = 0) -> list[T]:
    """Return this many entries of one of the SDK's lists; pages that are not needed stay unread."""
    entries = aiter(found)
    for _ in range(skip):
        await anext(entries, None)
    taken = [await anext(entries, None) for _ in range(count)]
    return [entry for entry in taken if entry is not None]


async def call_each(
    function: Callable[[T], Awaitable[Result]], arguments: Iterable[T]
) -> list[Result]:
    """Call a function with each argument, some at once, and return the results in order.

    In each event loop, all lists together make at most `Limits.calls_at_once` such calls at a time,
    and callers take turns. If one call fails, the others are cancelled. The function may not call
    this one: it might never get a second turn.
    """
    at_once, caller = limits().calls_at_once, this_request().sender.short_hash

    received = this_request().received

    async def call(argument: T) -> Result:
        received.release()  # or two requests could wait for each other
        end_turn = await _turns.begin(at_once, caller)
        try:
            return await function(argument)
        finally:
            received.release()
            end_turn()

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
    return remote.ActionDetails(ActionDetails(id=pb2.id, metadata=pb2.metadata, status=pb2.status))


async def read_details(action: Any, read: Callable[[remote.ActionDetails], Result]) -> Result:
    """Fetch the details of a listed action, and return what is read from them.

    If Flyte does not return any, as of a child just enqueued, there is only what the list has.
    """
    details = listed_details(action)
    with skip_unreadable():
        details = await remote.ActionDetails.get_details.aio(action.pb2.id)
    return read(details)  # at once: they may be large


async def details_of(
    actions: Iterable[Any], read: Callable[[remote.ActionDetails], Result]
) -> list[Result]:
    """Fetch the details of listed actions, and return what is read from them."""
    return await call_each(lambda action: read_details(action, read), actions)


def state_of(details: remote.ActionDetails) -> remote.Action:
    """Return an action's state and attempts: its details are too large for a long stream."""
    pb2 = details.pb2
    state = remote.Action(Action(id=pb2.id, metadata=pb2.metadata, status=pb2.status))
    state.pb2.status.attempts = attempts_of(pb2)
    return state


async def runs_that_ask(**filters: Any) -> AsyncIterator[remote.Run]:
    """List the runs that wait for an answer, the newest first."""
    runs = remote.Run.listall.aio(
        paused_actions_only=True, sort_by=NEWEST_FIRST, limit=sys.maxsize, **filters
    )
    async for run in runs:
        if not run.done():  # Flyte also lists those that have failed while they asked
            yield run


async def paused_actions(limit: int) -> list[remote.Action]:
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

    owners: dict[str, str] = {}
    async for run in runs_that_ask():
        owner = Identity.of(run.pb2.action.metadata.executed_by)
        owners[run.name] = owner.subject if owner else ""
        if len(owners) == RUNS_THAT_ASK:
            break
    found = await call_each(paused, _round_robin(owners, owners.__getitem__)[:limit])
    newest = sorted(chain.from_iterable(found), key=_seconds_of_start, reverse=True)
    chosen = _round_robin(newest, lambda action: owners[action.run_name])[:limit]
    return sorted(chosen, key=_seconds_of_start, reverse=True)


def _seconds_of_start(action: remote.Action) -> int:
    return int(action.pb2.status.start_time.seconds)


def _round_robin(entries: Iterable[T], owner_of: Callable[[T], str]) -> list[T]:
    """Return each owner's first entry, then each owner's second one, and so on."""
    of_owner = defaultdict[str, list[T]](list)
    for entry in entries:
        of_owner[owner_of(entry)].append(entry)
    rounds = zip_longest(*of_owner.values())
    return [entry for each in rounds for entry in each if entry is not None]


async def conditions_of(run: str) -> list[remote.Action]:
    """Return what a run asks: what waits for an answer, then the rest in Flyte's order."""
    paused = ActionPhase.PAUSED.to_protobuf_value()
    listed = remote.Condition.listall.aio(run)
    found = [state_of(listed_details(condition)) async for condition in listed]
    return sorted(found, key=lambda action: action.raw_phase != paused)


async def report_address(action: remote.Action) -> str:
    """Return the address of an action's report, which Flyte signs for the caller.

    Redirect the browser there. Whoever has the address can read the report: don't log it. If there
    is no report, the error is NOT_FOUND.
    """
    number = attempts_of((await action.details()).pb2)
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

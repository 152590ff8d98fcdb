"""What the SDK does not do for runs: their attempts, what they ask, links to reports."""

import re
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from itertools import chain
from typing import Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyte import remote
from flyte.models import ActionPhase
from flyteidl2.common.identifier_pb2 import ActionAttemptIdentifier
from flyteidl2.dataproxy import dataproxy_service_pb2 as pb
from flyteidl2.workflow.run_definition_pb2 import Action, ActionDetails

from ..calls.caller import initialised
from .lists import call_each, skip_unreadable, take

NEWEST_FIRST = ("created_at", "desc")


def attempts_of(details: ActionDetails) -> int:
    """Return the number of attempts from ``ActionDetails.pb2``; the status of a parent says 0."""
    last = details.attempts[-1:]  # in their order
    return max([details.status.attempts, *(attempt.attempt for attempt in last)])


def state_of(details: remote.ActionDetails) -> remote.Action:
    """Return an action with its state and the number of its attempts, but without its details.

    Details hold the task's whole specification: streams, which last for minutes, do without.
    """
    pb2 = details.pb2
    state = remote.Action(Action(id=pb2.id, metadata=pb2.metadata, status=pb2.status))
    state.pb2.status.attempts = attempts_of(pb2)
    return state


async def runs_that_ask(**filters: Any) -> AsyncIterator[remote.Run]:
    """List the runs that wait for an answer, the newest first.

    Flyte also lists those that have failed while they asked.
    """
    runs = remote.Run.listall.aio(
        paused_actions_only=True, sort_by=NEWEST_FIRST, limit=sys.maxsize, **filters
    )
    async for run in runs:
        if not run.done():
            yield run


async def paused_actions(limit: int) -> list[remote.Action]:
    """Return the newest actions that wait for an answer, of as many of the newest runs that ask."""

    async def paused(run: remote.Run) -> list[remote.Action]:
        with skip_unreadable():  # a run that was deleted meanwhile hides no other
            return await take(_paused_in(run.name), limit)
        return []

    found = chain.from_iterable(await call_each(paused, await take(runs_that_ask(), limit)))
    newest = sorted(found, key=lambda action: action.pb2.status.start_time.seconds, reverse=True)
    return newest[:limit]


async def conditions_of(run: str) -> AsyncGenerator[remote.Action]:
    """List what a run asks: what waits for an answer, then the rest in Flyte's order, by phase."""
    async for action in _paused_in(run):
        yield action
    async for condition in remote.Condition.listall.aio(run):
        if condition.pb2.status.phase != ActionPhase.PAUSED.to_protobuf_value():
            yield _brief(condition)


async def _paused_in(run: str) -> AsyncGenerator[remote.Action]:
    paused = (ActionPhase.PAUSED,)
    async for action in remote.Action.listall.aio(run, in_phase=paused, sort_by=NEWEST_FIRST):
        yield _brief(action)


def _brief(listed: remote.Action | remote.Condition) -> remote.Action:
    """Return which action it is, and its state: the rest would keep the whole page in memory."""
    return remote.Action(Action(id=listed.pb2.id, status=listed.pb2.status))


async def report_address(action: remote.Action) -> str:
    """Return the address of an action's report, which Flyte signs for the caller.

    Send the browser there, and never open it in the app. Whoever has the address can read the
    report until it expires, so it must not be logged.

    Raises:
        ConnectError: NOT_FOUND if there is no report; INTERNAL if the address has no TLS, unless
            it is on the browser's own machine, as with the local Flyte.
    """
    attempt = ActionAttemptIdentifier(
        action_id=action.action_id, attempt=attempts_of((await action.details()).pb2)
    )
    asked = pb.CreateDownloadLinkRequest(
        artifact_type=pb.ARTIFACT_TYPE_REPORT, action_attempt_id=attempt
    )
    answer = await initialised().client.dataproxy_service.create_download_link(asked)
    address = next(iter(answer.pre_signed_urls.signed_url), "")
    if not address:
        raise ConnectError(Code.NOT_FOUND, f"the action {action.name} has no report")
    if not re.match(r"https://|http://(127\.0\.0\.1|localhost)(:\d+)?/", address):
        raise ConnectError(Code.INTERNAL, "Flyte's address of the report has no TLS")
    return str(address)

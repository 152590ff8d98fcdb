"""Reading the SDK's lists, and the details that they lack, with few calls at once."""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyte import remote
from flyteidl2.workflow.run_definition_pb2 import ActionDetails

from ..calls.request_calls import request_calls
from ..calls.turns import Turns
from ..limits import limits

NOT_ABOUT_ONE_ENTRY = {Code.UNAUTHENTICATED, Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED}

T = TypeVar("T")
Result = TypeVar("Result")

_turns = Turns()
_has_a_turn: ContextVar[bool] = ContextVar("_has_a_turn", default=False)


async def take(found: AsyncIterable[T], count: int, skip: int = 0) -> list[T]:
    """Return this many entries of one of the SDK's lists; pages that are not needed stay unread."""
    entries, taken = aiter(found), list[T]()
    while len(taken) < count and (entry := await anext(entries, None)) is not None:
        if skip:
            skip -= 1
        else:
            taken.append(entry)
    return taken


async def call_each(
    function: Callable[[T], Awaitable[Result]], arguments: Iterable[T]
) -> list[Result]:
    """Call a function with each argument, some at once, and return the results in order.

    All lists of a process together make at most `Limits.calls_at_once` such calls at a time, and
    take turns. If one call fails, the others are cancelled.
    """
    if _has_a_turn.get():  # the caller is such a call itself: a second turn might never come
        return [await function(argument) for argument in arguments]
    at_once, caller = limits().calls_at_once, request_calls().sender.short_hash
    results, todo = dict[int, Result](), enumerate(arguments)

    async def work() -> None:
        _has_a_turn.set(True)
        for place, argument in todo:
            end_turn = await _turns.begin(at_once, caller)
            try:
                results[place] = await function(argument)
            finally:
                end_turn()

    # Not a TaskGroup: if it is cancelled, its exception is in a cycle, which keeps messages.
    workers = [asyncio.create_task(work()) for _ in range(at_once)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
    return [results[place] for place in sorted(results)]


@contextmanager
def skip_unreadable() -> Generator[None]:
    """Skip the rest of the block if Flyte cannot answer for one entry of a list.

    Raises:
        ConnectError: All entries are concerned: Flyte cannot be reached, or does not accept the
            credentials.
    """
    try:
        yield
    except ConnectError as error:
        if error.code in NOT_ABOUT_ONE_ENTRY:
            raise


def listed_details(action: Any) -> remote.ActionDetails:
    """Return the details of an action, without a call: only what a list has."""
    listed = {field.name: value for field, value in action.pb2.ListFields()}
    return remote.ActionDetails(ActionDetails(**listed))


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

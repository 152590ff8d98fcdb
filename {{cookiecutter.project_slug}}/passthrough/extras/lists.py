"""Reading the SDK's lists, and the details that they lack, with few calls at once."""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Generator, Iterable
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyte import remote
from flyteidl2.workflow.run_definition_pb2 import ActionDetails

from ..limits import MAX_CALLS_AT_ONCE

NOT_ABOUT_ONE_ENTRY = {Code.UNAUTHENTICATED, Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED}

T = TypeVar("T")
Result = TypeVar("Result")


async def take(found: AsyncIterable[T], count: int, skip: int = 0) -> list[T]:
    """Return this many entries of one of the SDK's lists; pages that are not needed stay unread."""
    taken: list[T] = []
    async for each in found:
        if skip:
            skip -= 1
            continue
        taken.append(each)
        if len(taken) == count:
            break
    return taken


async def call_each(
    function: Callable[[T], Awaitable[Result]], arguments: Iterable[T]
) -> list[Result]:
    """Call a function with each argument, some at once, and return the results in order.

    If one call fails, the others are cancelled.
    """
    free = asyncio.Semaphore(MAX_CALLS_AT_ONCE)

    async def call(argument: T) -> Result:
        async with free:
            return await function(argument)

    calls = [asyncio.create_task(call(each)) for each in arguments]
    try:
        return await asyncio.gather(*calls)
    finally:
        for each in calls:
            each.cancel()


@contextmanager
def skip_unreadable() -> Generator[None]:
    """Skip the rest of the block if Flyte answers what it reads with an error, or nonsense.

    For one entry of a list, which must not hide the others.

    Raises:
        ConnectError: What says nothing about the entry: Flyte cannot be reached, or does not accept
            the credentials.
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

    If they cannot be read, such as those of a child that has just been enqueued, or are those of
    another action, there is only what the list has.
    """
    details = listed_details(action)
    with skip_unreadable():
        found = await remote.ActionDetails.get_details.aio(action.pb2.id)
        if (found.run_name, found.name) == (details.run_name, details.name):
            details = found
    return read(details)  # at once: they may be large


async def details_of(
    actions: Iterable[Any], read: Callable[[remote.ActionDetails], Result]
) -> list[Result]:
    """Fetch the details of listed actions, and return what is read from them."""
    return await call_each(partial(read_details, read=read), actions)

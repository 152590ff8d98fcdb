"""The connection to Flyte: opened without credentials of its own, every call with a deadline.

In passthrough mode the Flyte SDK sends whatever ``passthrough_auth`` put into the request's
context, and nothing else. The app has no identity that a call could fall back on.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import flyte
from flyte import remote
from flyteidl2.common.identifier_pb2 import RunIdentifier
from flyteidl2.workflow import run_definition_pb2

from .settings import Settings, check_connection

logger = logging.getLogger(__name__)

T = TypeVar("T")


async def connect(settings: Settings) -> None:
    """Initialise the Flyte SDK of this process in passthrough mode. Sends nothing yet.

    Raises:
        SettingsError: If there is no Flyte to speak to, or callers' credentials would be dropped.
    """
    check_connection(settings)
    if settings.flyte_plaintext:
        logger.warning("Flyte is spoken to in plaintext: every caller acts as nobody")
    # The SDK reports its use to its makers, which is for the app's owner to allow (DO_NOT_TRACK=0).
    os.environ.setdefault("DO_NOT_TRACK", "1")
    await flyte.init_passthrough.aio(
        endpoint=settings.flyte_endpoint,
        org=settings.flyte_org,
        project=settings.flyte_project,
        domain=settings.flyte_domain,
        insecure=settings.flyte_plaintext,
    )


def deadline(settings: Settings) -> AbstractAsyncContextManager[object]:
    """Bound the calls to Flyte inside this context; the SDK itself waits for ever.

    Raises:
        TimeoutError: When ``settings.flyte_timeout`` seconds have passed.
    """
    return asyncio.timeout(settings.flyte_timeout)


async def get_run(settings: Settings, project: str, domain: str, name: str) -> remote.RunDetails:
    """Fetch a run of any project and domain."""
    if (project, domain) == (settings.flyte_project, settings.flyte_domain):
        return await remote.RunDetails.get.aio(name=name)
    # The SDK's own look-up takes neither, but finds out the organization where none is set.
    return await remote.RunDetails.get_details.aio(
        RunIdentifier(org=settings.flyte_org, project=project, domain=domain, name=name)
    )


def as_run(details: remote.RunDetails) -> remote.Run:
    """Turn what is known of a run into an object that can watch it, abort it and read its logs."""
    action = details.action_details
    return remote.Run(
        run_definition_pb2.Run(
            action=run_definition_pb2.Action(
                id=action.action_id, metadata=action.metadata, status=action.status
            )
        )
    )


async def follow(
    stream: AsyncIterator[T], run: remote.RunDetails, settings: Settings
) -> AsyncIterator[T]:
    """Yield from a stream about a run until it ends, or stays silent though the run has ended.

    Silence is normal while a task works, but it is also how a hung server looks, and a log that
    nobody closes. So after every ``settings.flyte_timeout`` seconds of it the run is looked up.

    Raises:
        TimeoutError: When that look-up is not answered either.
    """
    item: asyncio.Future[T] | None = None
    try:
        while True:
            item = asyncio.ensure_future(anext(stream))
            while not (await asyncio.wait({item}, timeout=settings.flyte_timeout))[0]:
                async with deadline(settings):
                    now = await remote.RunDetails.get_details.aio(run.action_id.run)
                if now.done():
                    return
            yield item.result()
    except StopAsyncIteration:
        return
    finally:
        if item is not None:
            item.cancel()
            # Not awaited: the SDK goes on until a hung server answers, whoever has left meanwhile.
            item.add_done_callback(lambda item: item.cancelled() or item.exception())

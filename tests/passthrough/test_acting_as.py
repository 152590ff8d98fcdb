"""Calling Flyte as the sender of a request that is not being served."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from connectrpc.errors import ConnectError
from fastapi import APIRouter
from flyte import remote
from starlette.datastructures import Headers

from local_flyte import LocalFlyte
from local_flyte.testing import bearer, wait_until
from passthrough.acting_as import acting_as
from passthrough.calls.errors import DeadlineExceededError
from passthrough.settings import Settings

router = APIRouter()
SETTINGS = Settings(flyte_endpoint="dns:///unused")
ALICE, BOB = {"Authorization": bearer("alice")}, {"authorization": bearer("bob")}

pytestmark = pytest.mark.usefixtures("alice")  # her app has initialised the SDK


def request(headers: Any) -> Any:
    return SimpleNamespace(headers=headers)


def subject(headers: Any) -> str | None:
    with acting_as(request(headers), SETTINGS):
        return remote.User.get().subject()


@pytest.mark.parametrize("kind", [dict, Headers, httpx.Headers])
def test_each_thread_acts_as_the_sender_of_its_own_request(kind: Callable[..., Any]) -> None:
    with ThreadPoolExecutor(4) as pool:
        seen = [*pool.map(subject, [kind(ALICE), kind(BOB)] * 8)]
    assert seen == ["alice-subject", "bob-subject"] * 8


async def test_nothing_acts_after_the_block_even_if_it_fails(local_flyte: LocalFlyte) -> None:
    async def ask(*, later: bool) -> None:
        if later:
            await is_over.wait()
        await remote.User.get.aio()

    async def fail() -> None:
        with acting_as(request(ALICE), SETTINGS):
            tasks.extend([asyncio.create_task(ask(later=later)) for later in (False, True)])
            await asyncio.to_thread(wait_until, lambda: local_flyte.open_calls("UserInfo"))
            raise ZeroDivisionError

    is_over, tasks = asyncio.Event(), list[asyncio.Task[None]]()
    with local_flyte.hang("UserInfo"):
        with pytest.raises(ZeroDivisionError):
            await fail()
        is_over.set()
        for task in tasks:
            with pytest.raises(asyncio.CancelledError):
                await task
    with pytest.raises(ConnectError, match="there are no caller's credentials here"):
        await remote.User.get.aio()


def test_each_call_has_the_apps_timeout(local_flyte: LocalFlyte) -> None:
    hasty = SETTINGS.model_copy(update={"flyte_timeout": 0.1})
    with local_flyte.hang("UserInfo"), acting_as(request(ALICE), hasty):  # noqa: SIM117
        with pytest.raises(DeadlineExceededError):
            remote.User.get()

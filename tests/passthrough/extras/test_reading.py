"""Lists: few calls at once, and entries that are too large."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import flyte
import httpx
import pytest
from flyte import remote
from flyteidl2.core.types_pb2 import LiteralType, TypeStructure
from flyteidl2.workflow.run_definition_pb2 import (
    Action,
    ActionDetails,
    ActionMetadata,
    ConditionActionMetadata,
)

from app.routers import conditions, me, runs, streams
from local_flyte import LocalFlyte
from local_flyte.testing import acting_as, client_of, ended, events, serving, start
from passthrough.calls import interceptor
from passthrough.extras.reading import (
    CALLS_AT_ONCE,
    call_each,
    listed_details,
    state_of,
    take,
)
from passthrough.limits import Limits
from passthrough.settings import Settings

from ..support import Called, build_app, router_of, run_of

pytestmark = pytest.mark.anyio
router = router_of(conditions, me, runs, streams)
LIMITS = Limits(max_message_bytes=100_000, max_received_bytes=150_000)
LARGE = "x" * 8_000  # more than a page of a list may have


@pytest.fixture(scope="module")
def bob(local_flyte: LocalFlyte) -> Iterator[httpx.Client]:
    """Bob's client of an app that reads little."""
    with (
        pytest.MonkeyPatch.context() as patch,
        serving(build_app(router)) as url,
        client_of(url, "bob") as client,
    ):
        patch.setattr(Settings, "limits", LIMITS)
        yield client


def run(text: str = "") -> str:
    """Return a run of alice's with a label. It has ended: until then, Flyte may move its start."""
    with acting_as("alice"):
        task = remote.Task.get("tests.greet", auto_version="latest")
        context = flyte.with_runcontext("remote", labels={"text": text})
        return ended(str(context.run(task, name="Ada").name))


def test_too_large_list_entry_is_skipped(bob: httpx.Client, called: Called) -> None:
    small = {run(), run(), run()}
    for _ in range(5):
        run(LARGE)
    small |= {run(), run(), run()}
    response = bob.get("/runs")
    assert {entry["name"] for entry in response.json()} == small
    assert response.headers["x-omitted-count"] == "5"
    assert called("ListRuns") < 25


def test_list_with_too_many_large_entries_is_413(
    bob: httpx.Client, called: Called, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each omitted entry costs a call to Flyte."""
    monkeypatch.setattr(interceptor, "MAX_OMITTED", 1)
    for _ in range(3):
        run(LARGE)
    assert bob.get("/runs").status_code == 413
    assert called("ListRuns") < 15


def test_list_too_large_in_total_is_refused(bob: httpx.Client) -> None:
    for _ in range(30):
        run("x" * 7_000)
    responses = [bob.get("/runs", params={"limit": limit}) for limit in (30, 20)]
    assert str(LIMITS.max_received_bytes) in responses[0].json()["detail"]
    assert len(responses[1].json()) == 20


def test_action_details_over_total_limit_are_still_returned(
    bob: httpx.Client, local_flyte: LocalFlyte
) -> None:
    run = ended(start("tests.ask", prompts=["a?", "b?", "c?"], fails_after=0.1))
    record = run_of(local_flyte, run)
    for action in record.actions.values():
        action.details.error_info.message = "x" * 60_000
    listed = bob.get(f"/runs/{run}/actions").json()
    watched = [json.loads(event.data) for event in events(bob.get(f"/runs/{run}/actions/events"))]
    for actions in (listed, watched):
        assert {action["name"] for action in actions if action["error"]} == {*record.actions}


@pytest.mark.parametrize(
    ("copy", "original"),
    [
        (listed_details, remote.Action(Action())),
        (state_of, remote.ActionDetails(ActionDetails())),
    ],
)
def test_copied_action_leaves_original_unchanged(
    copy: Callable[[Any], Any], original: remote.Action | remote.ActionDetails
) -> None:
    structure = TypeStructure(tag="large")
    condition = ConditionActionMetadata(type=LiteralType(simple="STRING", structure=structure))
    metadata = ActionMetadata(condition=condition, group="g")
    metadata.trigger_type.schedule.cron.expression = "* * * * *"
    original.pb2.metadata.CopyFrom(metadata)
    copied = copy(original).pb2.metadata
    assert original.pb2.metadata == metadata
    assert copied.group == "g"
    assert copied.condition.type == LiteralType(simple="STRING")
    assert not copied.HasField("trigger_type")


class Calls:
    """Calls that take a while, counted."""

    def __init__(self) -> None:
        self.open = self.most = self.begun = 0

    async def __call__(self, number: int) -> int:
        self.open, self.begun = self.open + 1, self.begun + 1
        self.most = max(self.most, self.open)
        try:
            for _ in range(5):
                await asyncio.sleep(0)
            return [*range(1000)].index(number)
        finally:
            self.open -= 1


async def test_call_each_limits_concurrent_calls_to_ten() -> None:
    calls = Calls()
    assert await call_each(calls, range(300)) == [*range(300)]
    assert calls.most == CALLS_AT_ONCE


async def test_call_each_starts_no_calls_after_failure() -> None:
    calls = Calls()
    with pytest.raises(ValueError, match="-1"):
        await call_each(calls, [-1, *range(1000)])
    begun = calls.begun
    await asyncio.sleep(0.1)
    assert calls.begun == begun <= 2 * CALLS_AT_ONCE


async def test_take_stops_reading_after_requested_entries() -> None:
    async def entries() -> AsyncGenerator[int]:
        for number in range(count + skip):
            yield number
        pytest.fail("a further entry was read")

    for count, skip in ((2, 0), (2, 3)):
        assert await take(entries(), count, skip) == [*range(skip, skip + count)]

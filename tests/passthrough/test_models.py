"""Models of what the SDK returns: what they show of very much, and how they cut it."""

import json
from datetime import datetime
from typing import Any

import pytest
from flyte import remote
from flyteidl2.common import phase_pb2
from flyteidl2.core.catalog_pb2 import CACHE_HIT
from flyteidl2.workflow import run_definition_pb2 as pb
from pydantic import TypeAdapter

from passthrough.models import Action, BoundedList, Timestamp


def details(phase: str, **more: Any) -> remote.ActionDetails:
    status = pb.ActionStatus(phase=phase, cache_status=more.pop("cache_status", 0))
    return remote.ActionDetails(pb.ActionDetails(status=status, **more))


def test_an_action_shows_its_last_phases_and_what_happened_to_it_on_the_cluster() -> None:
    def attempt(number: int, *messages: str, **more: Any) -> pb.ActionAttempt:
        events = [pb.ClusterEvent(message=each) for each in messages]
        return pb.ActionAttempt(attempt=number, cluster_events=events, **more)

    phase = pb.PhaseTransition(phase=phase_pb2.ACTION_PHASE_RUNNING)
    phase.start_time.seconds = 1
    attempts = [attempt(number, phase_transitions=[phase] * 2) for number in range(1, 23)]
    attempts += [
        attempt(23, *(f"old {number}" for number in range(100))),
        attempt(24, "Pulling", "Back-off", "Evicted", "Pulling", "Back-off"),
    ]
    events = attempts[-1].cluster_events
    events[2].count = 7
    events.add(reason="x")
    for waits in ("INITIALIZING", "QUEUED", "FAILED"):
        shown = Action.of(details(f"ACTION_PHASE_{waits}", attempts=attempts))
        assert [(each.message, each.count) for each in shown.events] == [
            ("old 99", 1), ("Evicted", 7), ("Pulling", 2), ("Back-off", 2), ("x", 1),
        ]  # fmt: skip
    shown = Action.of(details("ACTION_PHASE_RUNNING", attempts=attempts))
    assert (shown.events, shown.attempts, shown.cached) == ([], 24, False)
    assert [each.attempt for each in shown.phases] == [n for n in range(13, 23) for _ in "ab"]
    last = json.loads(shown.phases[-1].model_dump_json())
    assert last["started_at"] == "1970-01-01T00:00:01.000000Z"
    assert (last["phase"], last["ended_at"]) == ("running", None)
    assert Action.of(details("ACTION_PHASE_SUCCEEDED", cache_status=CACHE_HIT)).cached


@pytest.mark.parametrize(
    ("time", "sent"),
    [
        ("2026-01-31T09:30:00Z", "2026-01-31T09:30:00.000000Z"),
        ("2026-01-31T00:30:00.847+02:00", "2026-01-30T22:30:00.847000Z"),
        ("0001-01-01T00:00:00.000001Z", "0001-01-01T00:00:00.000001Z"),
    ],
)
def test_a_time_is_sent_in_utc_with_microseconds(time: str, sent: str) -> None:
    adapter = TypeAdapter[datetime](Timestamp)
    assert json.loads(adapter.dump_json(datetime.fromisoformat(time))) == sent


def test_texts_are_cut_and_a_whole_list_of_them_too() -> None:
    long = details("ACTION_PHASE_FAILED", error_info=pb.ErrorInfo(message="x" * 30_000))
    error = Action.of(long).error or ""
    assert len(error) == 20_000
    adapter: TypeAdapter[list[Action]] = TypeAdapter(BoundedList[Action])
    few, many = ([Action.of(long)] * count for count in (3, 1000))
    assert adapter.validate_python(few) == few
    cut = adapter.validate_python(many)
    assert len(cut) == 1000
    assert {len(each.error or "") for each in cut} == {250}
    assert len(adapter.dump_json(cut)) < 2_000_000

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


def details(phase: Any, **more: Any) -> remote.ActionDetails:
    status = pb.ActionStatus(phase=phase, cache_status=more.pop("cache_status", 0))
    return remote.ActionDetails(pb.ActionDetails(status=status, **more))


def test_an_action_that_waits_or_has_failed_shows_what_happened_on_the_cluster() -> None:
    def attempt(number: int, *said: tuple[str, int]) -> pb.ActionAttempt:
        events = [pb.ClusterEvent(message=text, count=count) for text, count in said]
        return pb.ActionAttempt(attempt=number, cluster_events=events)

    old = [(f"old {number}", 0) for number in range(100_000)]
    attempts = [attempt(1, *old), attempt(2, ("Pulling", 0), ("Back-off", 0), ("Evicted", 7))]
    attempts[1].cluster_events.extend(
        [*attempts[1].cluster_events[:2], pb.ClusterEvent(reason="x")]
    )
    for phase in (
        phase_pb2.ACTION_PHASE_INITIALIZING,
        phase_pb2.ACTION_PHASE_QUEUED,
        phase_pb2.ACTION_PHASE_FAILED,
    ):
        shown = Action.of(details(phase, attempts=attempts))
        assert [(each.message, each.count) for each in shown.events] == [
            ("old 99999", 1), ("Evicted", 7), ("Pulling", 2), ("Back-off", 2), ("x", 1),
        ]  # fmt: skip
    for other in (phase_pb2.ACTION_PHASE_RUNNING, phase_pb2.ACTION_PHASE_SUCCEEDED):
        assert Action.of(details(other, attempts=attempts)).events == []


def test_an_action_shows_its_last_phases_of_very_many() -> None:
    phase = pb.PhaseTransition(phase=phase_pb2.ACTION_PHASE_RUNNING)
    phase.start_time.seconds = 1
    attempts = [pb.ActionAttempt(attempt=n, phase_transitions=[phase]) for n in range(1, 200_001)]
    shown = Action.of(details(phase_pb2.ACTION_PHASE_RUNNING, attempts=attempts))
    assert shown.attempts == 200_000
    assert [each.attempt for each in shown.phases] == [*range(199_981, 200_001)]
    last = json.loads(shown.phases[-1].model_dump_json())
    assert last["started_at"] == "1970-01-01T00:00:01.000000Z"
    assert (last["phase"], last["ended_at"]) == ("running", None)
    assert not shown.cached
    assert Action.of(details(phase_pb2.ACTION_PHASE_SUCCEEDED, cache_status=CACHE_HIT)).cached


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
    long = details(phase_pb2.ACTION_PHASE_FAILED, error_info=pb.ErrorInfo(message="x" * 3_000_000))
    error = Action.of(long).error or ""
    assert len(error) == 20_000
    adapter: TypeAdapter[list[Action]] = TypeAdapter(BoundedList[Action])
    few, many = ([Action.of(long) for _ in range(count)] for count in (3, 1000))
    assert adapter.validate_python(few) == few
    cut = adapter.validate_python(many)
    assert len(cut) == 1000
    assert {len(each.error or "") for each in cut} == {250}
    assert len(adapter.dump_json(cut)) < 2_000_000
    of_six_bytes = [each.model_copy(update={"error": "\x01" * 20_000}) for each in many]
    assert len(adapter.dump_json(adapter.validate_python(of_six_bytes))) < 4_000_000

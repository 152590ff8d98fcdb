"""Tests of the models that endpoints return."""

from datetime import UTC, datetime
from typing import Any

import pytest
from flyte import remote
from flyteidl2.common import identifier_pb2, identity_pb2, phase_pb2
from flyteidl2.core.catalog_pb2 import CACHE_HIT
from flyteidl2.workflow import run_definition_pb2 as pb

from passthrough import models
from passthrough.models import Action, Condition, Identity


def details(phase: str, **more: Any) -> remote.ActionDetails:
    status = pb.ActionStatus(phase=phase, cache_status=more.pop("cache_status", 0))
    return remote.ActionDetails(pb.ActionDetails(status=status, **more))


def attempt(number: int, *messages: str, **more: Any) -> pb.ActionAttempt:
    events = [pb.ClusterEvent(message=message) for message in messages]
    return pb.ActionAttempt(attempt=number, cluster_events=events, **more)


def test_action_contains_only_last_20_phases() -> None:
    phase = pb.PhaseTransition(phase=phase_pb2.ACTION_PHASE_RUNNING)
    phase.start_time.seconds = 1
    attempts = [attempt(number, phase_transitions=[phase] * 2) for number in range(1, 13)]
    action = Action.of(details("ACTION_PHASE_RUNNING", attempts=attempts))
    assert (action.attempts, action.cached) == (12, False)
    assert [one.attempt for one in action.phases] == [n for n in range(3, 13) for _ in "ab"]
    last = action.phases[-1]
    assert (last.started_at, last.ended_at) == (datetime.fromtimestamp(1, UTC), None)
    assert last.phase == "running"
    assert Action.of(details("ACTION_PHASE_SUCCEEDED", cache_status=CACHE_HIT)).cached


def test_waiting_action_has_cluster_events() -> None:
    last = attempt(24, "Pulling", "Back-off", "Evicted", "Pulling", "Back-off")
    last.cluster_events.add(reason="x")
    attempts = [attempt(23, *(f"old {number}" for number in range(100))), last]
    waiting = Action.of(details("ACTION_PHASE_INITIALIZING", attempts=attempts))
    messages = [event.message for event in waiting.events]
    assert messages == ["old 99", "Evicted", "Pulling", "Back-off", "x"]
    assert Action.of(details("ACTION_PHASE_FAILED", attempts=attempts)).events == []


def test_long_error_message_is_truncated_with_original_length() -> None:
    error, end = pb.ErrorInfo(message="x" * 31_000), "… (cut off, 31,000 characters)"
    message = Action.of(details("ACTION_PHASE_FAILED", error_info=error)).error
    assert message == "x" * (20_000 - len(end)) + end


def test_answer_of_unknown_type_is_null(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = details("ACTION_PHASE_SUCCEEDED", condition=pb.ConditionAction(prompt="May I?"))
    output = answered.pb2.signal_info.output
    output.scalar.primitive.boolean = True
    assert Condition.of(answered).value is True
    monkeypatch.setattr(models, "to_json", None)
    output.collection.literals.add()
    assert Condition.of(answered).value is None


@pytest.mark.parametrize(
    ("given_name", "family", "name"),
    [("Alice", "Adams", "Alice Adams"), ("", "Adams", "Adams"), ("", "", None)],
)
def test_identity_name_joins_nonempty_names_or_is_none(
    given_name: str, family: str, name: str | None
) -> None:
    user = identity_pb2.User(
        id=identifier_pb2.UserIdentifier(subject="00u1alice"),
        spec=identity_pb2.UserSpec(first_name=given_name, last_name=family),
    )
    identity = Identity.of(identity_pb2.EnrichedIdentity(user=user))
    assert identity == Identity(subject="00u1alice", name=name)

"""Conformance cases for conditions, which wait for a user's answer."""

from typing import Any

import pytest
from flyteidl2.auth.identity_pb2 import UserInfoRequest
from flyteidl2.common.identifier_pb2 import ActionIdentifier, RunIdentifier
from flyteidl2.core.types_pb2 import BOOLEAN
from flyteidl2.workflow.run_definition_pb2 import (
    ACTION_TYPE_CONDITION,
    CONDITION_PROMPT_TYPE_MARKDOWN,
)
from flyteidl2.workflow.run_service_pb2 import SignalEventRequest

from .client import Flyte, Person, code_of, fields, literal, phase_of, where

pytestmark = pytest.mark.usefixtures("deployed")

PAUSED = "9"
OF_CONDITIONS = where("action_type", str(ACTION_TYPE_CONDITION))
"""Filters use numbers of enum values."""


def start_with_condition(person: Person, kind: str = "bool", seconds: float = 0) -> RunIdentifier:
    return person.start("asks", kind=kind, seconds=float(seconds))


def condition_name(person: Person, run: RunIdentifier, phase: str = "PAUSED") -> str:
    (action,) = person.flyte.until(
        lambda: person.actions(run, OF_CONDITIONS),
        lambda actions: [phase_of(action) for action in actions] == [phase],
    )
    return action.id.name


def answer(person: Person, run: RunIdentifier, action: str, **payload: Any) -> None:
    id_ = ActionIdentifier(run=run, name=action)
    request = SignalEventRequest(action_id=id_, parent_action_name="a0", payload=payload)
    person.runs.signal_event(request)


def is_paused(person: Person, run: RunIdentifier) -> bool:
    return bool(person.list_runs(where("run_name", run.name), paused_actions_only=True)[0])


def test_condition_action_is_paused_until_answered(
    flyte: Flyte, alice: Person, bob: Person, request: pytest.FixtureRequest
) -> None:
    """A viewer may not answer; if another user answers, the action names that user."""
    run = start_with_condition(alice)
    name = condition_name(alice, run)
    actions = next(actions for actions in alice.watch_all(run) if name in actions)
    assert phase_of(actions["a0"].action) == "RUNNING"
    metadata = actions[name].action.metadata
    assert (metadata.parent, metadata.condition.name) == ("a0", "approval")
    assert phase_of(actions[name].action) == "PAUSED"

    action = alice.action(run, name)
    assert action.metadata.action_type == ACTION_TYPE_CONDITION
    assert fields(action.status) & {"start_time", "end_time"} == {"start_time"}
    assert not fields(action) & {"attempts", "signal_info"}
    condition = action.condition
    assert (condition.name, condition.type.simple) == ("approval", BOOLEAN)
    assert condition.prompt == "# A bool?"
    assert condition.prompt_type == CONDITION_PROMPT_TYPE_MARKDOWN
    assert not condition.HasField("timeout")

    alice.until("RUNNING", run)
    assert is_paused(alice, run)
    assert alice.list_runs(where("run_name", run.name), where("phase", PAUSED)) == ([], "")

    if flyte.kind == "union":
        victor = request.getfixturevalue("victor")
        assert code_of(answer, victor, run, name, bool_value=True) == "permission_denied"
    answer(bob, run, name, bool_value=True)
    action = alice.until("SUCCEEDED", run, name)
    assert action.signal_info.output.scalar.primitive.boolean
    if flyte.kind == "devbox":
        assert not action.signal_info.HasField("signalled_by")
        assert not alice.action(run).metadata.HasField("executed_by")
    else:
        subject = bob.identity.user_info(UserInfoRequest()).subject
        assert action.signal_info.signalled_by.user.id.subject == subject
    alice.until("SUCCEEDED", run)
    assert alice.values(run).outputs.literals[0].value == literal("True")
    assert not is_paused(alice, run)


def test_wrong_or_different_second_answer_is_refused(alice: Person, unique: str) -> None:
    """Repeating the same answer has no effect."""
    run = start_with_condition(alice, "float")
    name = condition_name(alice, run)
    assert code_of(answer, alice, run, "a0", bool_value=True) == "failed_precondition"
    assert code_of(answer, alice, run, unique, bool_value=True) == "not_found"
    wrong: list[dict[str, object]] = [{"bool_value": True}, {"int_value": 1}, {}]
    for payload in wrong:
        assert code_of(answer, alice, run, name, **payload) == "invalid_argument"
    for phase in ("PAUSED", "SUCCEEDED"):
        assert phase_of(alice.action(run, name)) == phase
        for _ in range(2):
            answer(alice, run, name, float_value=0.5)
        assert code_of(answer, alice, run, name, float_value=1.0) == "failed_precondition"
        action = alice.until("SUCCEEDED", run, name)
        assert action.signal_info.output.scalar.primitive.float_value == 0.5
    alice.until("SUCCEEDED", run)


def test_condition_times_out_in_task_and_api(alice: Person) -> None:
    run = start_with_condition(alice, seconds=1)
    name = condition_name(alice, run, "TIMED_OUT")
    action = alice.action(run, name)
    assert action.condition.timeout.seconds == 1
    assert not fields(action) & {"error_info", "signal_info"}
    assert code_of(answer, alice, run, name, bool_value=True) == "failed_precondition"
    alice.until("SUCCEEDED", run)
    assert alice.values(run).outputs.literals[0].value == literal("timed out")


def test_condition_ends_if_run_is_aborted(alice: Person) -> None:
    """If the run fails, the condition stays paused."""
    aborted, failed = start_with_condition(alice), alice.start("asks_and_fails")
    name = condition_name(alice, aborted)
    assert is_paused(alice, aborted)
    alice.abort(aborted)
    action = alice.until("ABORTED", aborted, name)
    assert action.status.HasField("end_time")
    assert not action.HasField("signal_info")
    assert not is_paused(alice, aborted)
    name = condition_name(alice, failed)
    alice.until("FAILED", failed)
    action = alice.action(failed, name)
    assert phase_of(action) == "PAUSED"
    assert not action.status.HasField("end_time")
    assert is_paused(alice, failed)

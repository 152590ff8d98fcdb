"""Tests of conditions: unusual answers, many conditions, and concurrent answers."""

from ast import literal_eval
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from flyteidl2.common import phase_pb2

from app.routers import conditions, runs
from local_flyte import Code, LocalFlyte
from local_flyte.actions import Action
from local_flyte.execution import RECORDING
from local_flyte.testing import ended, start, wait_until

from ..support import Called, router_of, run_of

router = router_of(conditions, runs)


def asked(
    client: httpx.Client, count: int = 1, person: str = "alice", **inputs: Any
) -> list[dict[str, Any]]:
    """Start a run of a person's that asks, and return its conditions, by name."""
    inputs = {"prompts": [f"{number}?" for number in range(count)]} | inputs
    path = f"/runs/{start('tests.ask', person, **inputs)}/conditions"
    wait_until(lambda: len(client.get(path).json()) == len(inputs["prompts"]))
    return sorted(client.get(path).json(), key=lambda condition: str(condition["name"]))


def answer(client: httpx.Client, condition: dict[str, Any], value: object) -> httpx.Response:
    path = f"/runs/{condition['run']}/conditions/{condition['action']}"
    return client.post(path, json={"value": value})


def record_of(local_flyte: LocalFlyte, condition: dict[str, Any]) -> Action:
    """Return Flyte's own record of a condition."""
    return run_of(local_flyte, condition["run"]).actions[condition["action"]]


@pytest.mark.parametrize(
    ("kind", "type_", "good", "bad"),
    [
        ("int", "integer", 2**40, [True, 1.5, 2**63, -(2**63) - 1, "1"]),
        ("float", "number", 7, [False, "1.5"]),
        ("str", "string", "\u00e9\U0001f600\r\n\u202e" + "x" * 90_000, ["x" * 100_001, 1]),
    ],
)
def test_answer_of_requested_type_arrives_unchanged(
    alice: httpx.Client, kind: str, type_: str, good: Any, bad: list[object]
) -> None:
    (condition,) = asked(alice, kind=kind)
    assert condition["type"] == type_
    for value in bad:
        assert answer(alice, condition, value).status_code == 422, value
    assert answer(alice, condition, good).status_code == 200
    outputs = alice.get(f"/runs/{ended(condition['run'])}/io").json()["outputs"]
    assert literal_eval(outputs["o0"]) == [good]


def test_long_prompt_or_description_is_marked_truncated(
    alice: httpx.Client, local_flyte: LocalFlyte
) -> None:
    long, short = asked(alice, prompts=["x" * 50_000, "May I?"])
    assert (short["prompt"], short["prompt_truncated"]) == ("May I?", False)
    assert long["prompt"].endswith("… (cut off, 50,000 characters)")
    assert long["prompt_truncated"]
    record_of(local_flyte, short).details.condition.description = "x" * 50_000
    listed = {(one["run"], one["name"]): one for one in alice.get("/conditions").json()}
    assert listed[long["run"], long["name"]] == long
    assert listed[short["run"], short["name"]]["prompt_truncated"]


def test_prompts_in_long_list_have_smaller_limit(alice: httpx.Client) -> None:
    conditions = asked(alice, prompts=["x" * 15_000] * 20)
    assert {len(condition["prompt"]) for condition in conditions} == {10_000}
    assert all(condition["prompt_truncated"] for condition in conditions)
    few = alice.get(f"/runs/{conditions[0]['run']}/conditions", params={"limit": 10}).json()
    assert {(len(one["prompt"]), one["prompt_truncated"]) for one in few} == {(15_000, False)}


def test_condition_list_is_limited_to_newest(alice: httpx.Client, local_flyte: LocalFlyte) -> None:
    (oldest,) = asked(alice)
    for action in run_of(local_flyte, oldest["run"]).actions.values():
        action.details.status.start_time.seconds -= 60
    bobs = {asked(alice, count=2, person="bob")[0]["run"] for _ in range(2)}
    for condition in alice.get("/conditions").json():
        if condition["run"] in bobs:  # together more than is read for most requests
            record_of(local_flyte, condition).details.condition.prompt = "x" * 3_000_000

    def owned_by_bob(limit: int) -> list[bool]:
        """Tell of each question that is listed whether Bob's runs ask it."""
        return [one["run"] in bobs for one in alice.get(f"/conditions?limit={limit}").json()]

    assert owned_by_bob(2) == [True, True]
    assert owned_by_bob(100).count(True) == 4


def test_repeated_answer_waits_until_first_answer_is_recorded(
    *,
    alice: httpx.Client,
    bob: httpx.Client,
    local_flyte: LocalFlyte,
    called: Called,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conditions, "RECORDED_WITHIN", 0.3)
    (condition,) = asked(alice)
    with ThreadPoolExecutor(2) as threads:
        with local_flyte.hang(RECORDING):
            sent_answer = answer(bob, condition, True)
            assert (sent_answer.status_code, sent_answer.json()) == (202, condition)
            ended(condition["run"])
            assert answer(alice, condition, True).status_code == 409  # nobody can know
            monkeypatch.setattr(conditions, "RECORDED_WITHIN", 60)
            local_flyte.clear_calls()
            again = [threads.submit(answer, alice, condition, value) for value in (True, False)]
            wait_until(lambda: called("GetActionDetails") > 4)
        same, other = (thread.result() for thread in again)
    assert (same.status_code, other.status_code) == (200, 409)
    assert same.json()["answered_by"]["subject"] == "bob-subject"
    assert "otherwise" in other.json()["detail"]


def test_answer_to_timed_out_condition_is_409(
    alice: httpx.Client, local_flyte: LocalFlyte, called: Called, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conditions, "RECORDED_WITHIN", 60)
    (condition,) = asked(alice)
    action = record_of(local_flyte, condition)
    with ThreadPoolExecutor(1) as thread, local_flyte.hang(RECORDING):
        response = thread.submit(answer, alice, condition, True)
        local_flyte.clear_calls()
        wait_until(lambda: called("GetActionDetails") > 2)
        local_flyte._background.call(lambda: action.set_status(phase_pb2.ACTION_PHASE_TIMED_OUT))
        assert response.result().status_code == 409
    action.details.signal_info.output.scalar.primitive.integer = 1
    assert answer(alice, condition, True).status_code == 409  # 1 is not true


def test_conditions_list_skips_unreadable_and_ended_runs(
    alice: httpx.Client, local_flyte: LocalFlyte
) -> None:
    own = [condition for _ in range(2) for condition in asked(alice)]

    def waiting() -> set[str]:
        return {listed["run"] for listed in alice.get("/conditions").json()}

    large, aborted = (listed["run"] for listed in own)
    assert {large, aborted} <= waiting()
    older = record_of(local_flyte, own[0] | {"action": "a0"}).details
    older.status.start_time.seconds -= 60  # Flyte rounds it to seconds
    (newest,) = alice.get("/conditions?limit=1").json()
    assert newest["run"] == aborted
    seen = waiting()  # also those of other tests
    local_flyte.fail_next("ListActions", Code.NOT_FOUND)
    assert len(seen - waiting()) == 1
    local_flyte.fail_next("ListActions", Code.UNAUTHENTICATED)  # of no single run
    assert alice.get("/conditions").status_code == 401
    record_of(local_flyte, own[0]).details.condition.prompt = "x" * 9_000_000  # not read
    failed = ended(start("tests.ask", prompts=["?"], fails_after=0.5))
    assert failed in [
        run.id.name for run in local_flyte._services.runs.values() if run.has_paused_action
    ]
    assert waiting() & {large, aborted, failed} == {aborted}
    asking = {listed["name"] for listed in alice.get("/runs?phase=paused&limit=200").json()}
    assert asking & {large, aborted, failed} == {large, aborted}
    alice.post(f"/runs/{aborted}/abort")
    wait_until(lambda: aborted not in waiting())


def test_waiting_conditions_are_listed_first(alice: httpx.Client, local_flyte: LocalFlyte) -> None:
    own = asked(alice, count=3)
    for condition in own[:2]:
        answer(alice, condition, True)
    path = f"/runs/{own[0]['run']}/conditions"
    pages = [alice.get(path, params={"offset": at, "limit": 2}).json() for at in (0, 2, 3)]
    assert [len(page) for page in pages] == [2, 1, 0]
    names = [listed["name"] for page in pages for listed in page]
    assert (names[0], sorted(names)) == ("question-2", [listed["name"] for listed in own])
    # What Flyte lists and does not know yet takes its place, and cannot be asked.
    local_flyte.fail_next("GetActionDetails", Code.NOT_FOUND)
    assert "" not in [listed["name"] for listed in alice.get("/conditions").json()]

"""All of a run: its actions, watching them, the logs of their attempts, reports, recovering it."""

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import flyte
import httpx
import pytest
from fastapi import APIRouter
from flyte import remote

from app.routers import conditions, runs, streams
from local_flyte import Code, LocalFlyte
from local_flyte import runs as local_runs
from local_flyte.testing import Event, client_of, ended, events, serving, start, wait_until
from passthrough import Limits
from passthrough.extras import watching
from passthrough.extras.following import PART_CHARS

from ..envoy import in_front_of
from .elsewhere import Elsewhere, envelope, lines
from .support import TASKS, build_app

pytestmark = pytest.mark.usefixtures("certificate")
router = APIRouter()


@router.post("/tasks/{name}")
async def run_to_its_end(name: str) -> str:
    run = await flyte.run.aio(remote.Task.get(name, auto_version="latest"), to=100_000)
    await run.wait.aio()
    return str(run.name)


for module in (conditions, runs, streams):
    router.include_router(module.router)


def sent(client: httpx.Client, run: str, kind: str, **headers: str) -> list[Event]:
    """Return the events of a run's stream, until it ends."""
    return [*events(client.get(f"/runs/{run}/{kind}", headers=headers))]


def resumes(client: httpx.Client, run: str, kind: str, told: list[Event]) -> bool:
    """Tell whether a stream goes on after any of its events."""
    rests = [sent(client, run, kind, **{"Last-Event-ID": event.id}) for event in told]
    return rests == [told[place + 1 :] for place, _ in enumerate(told)]


def changes(client: httpx.Client, run: str) -> list[dict[str, Any]]:
    """Return the actions that the stream of a run's actions sends, until it ends."""
    return [json.loads(event.data) for event in sent(client, run, "actions/events")]


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that makes `family` fail as long as it exists."""
    (file := tmp_path_factory.mktemp("family") / "broken").touch()
    return file


@pytest.fixture(scope="module")
def family(local_flyte: LocalFlyte, broken: Path) -> str:
    """A run of three children: one stumbles once, one fails. It has just started."""
    return start("tests.family", broken=str(broken))


# Watching


def test_each_action_is_sent_when_it_changes_as_the_list_shows_it_until_the_run_has_ended(
    alice: httpx.Client, bob: httpx.Client, local_flyte: LocalFlyte, family: str
) -> None:
    with ThreadPoolExecutor(2) as threads:
        told, other = threads.map(lambda client: changes(client, family), (alice, bob))
    listed = {each["name"]: each for each in alice.get(f"/runs/{family}/actions").json()}
    for seen in (told, other, changes(bob, family)):
        assert {each["name"]: each for each in seen} == listed
    phases = [each["phase"] for each in told if each["name"] == "a0"]
    assert phases[-1] == "failed"
    assert "running" in phases
    wait_until(lambda: local_flyte.open_calls("WatchActions") == 0)


def test_a_watch_begins_anew_if_a_childs_notification_overtakes_its_parents_and_ends_after_its_run(
    alice: httpx.Client, local_flyte: LocalFlyte
) -> None:
    run = start("tests.ask", prompts=["?"], fails_after=2)
    local_flyte.fail_next(
        "WatchActions", Code.INTERNAL, after=1, message="parent node [x] not found"
    )
    told = changes(alice, run)
    phases = {each["name"]: each["phase"] for each in told}
    (asked,) = phases.keys() - {"a0"}
    assert (phases["a0"], phases[asked]) == ("failed", "paused")  # as it stays at Flyte


def test_of_a_large_run_all_actions_come_and_only_what_went_wrong_is_fetched(
    alice: httpx.Client, local_flyte: LocalFlyte, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended(family)
    monkeypatch.setattr(watching, "limits", lambda: Limits(watched_details=0))
    monkeypatch.setattr(local_runs, "WATCHED_AT_ONCE", 3)  # so that it is not in one message
    local_flyte.clear_calls()
    told = changes(alice, family)
    assert [call.method for call in local_flyte.calls].count("GetActionDetails") == 2
    shown = sorted((each["phase"], bool(each["phases"])) for each in told)
    assert shown == [("failed", True)] * 2 + [("succeeded", False)] * 2


def test_a_task_that_takes_too_long_is_answered_with_its_run(
    short_timeout: httpx.Client,
) -> None:
    answer = short_timeout.post("/tasks/tests.count?project=flytesnacks")
    assert answer.status_code == 504
    found = re.fullmatch("this took too long; the run (.+) goes on", answer.json()["detail"])
    assert found
    assert short_timeout.post(f"/runs/{found[1]}/abort").is_success


# Attempts


def test_streams_go_on_over_all_attempts_and_resume_in_the_right_one(alice: httpx.Client) -> None:
    run = start("tests.stumble", times=1)
    with ThreadPoolExecutor(2) as threads:  # from the first attempt until the end
        log, phases = threads.map(lambda kind: sent(alice, run, kind), ("logs", "events"))
    lines = [f"attempt {attempt}, line {n}" for attempt in (0, 1) for n in range(3)]
    assert [event.data for event in log if event.data in lines] == lines
    attempts = [event for event in log if event.type != "message"]
    assert attempts == [("attempt", '{"attempt": 2}', "2-0")]
    assert len({event.id for event in log}) == len(log)
    assert resumes(alice, run, "logs", log)

    *_, running, attempt, end = phases
    assert (attempt.type, json.loads(attempt.data)["attempts"]) == ("attempt", 2)
    ids = [event.id for event in (running, attempt, end)]
    assert ids == ["1-running", "2-running", "2-succeeded"]
    rest = sent(alice, run, "events", **{"Last-Event-ID": ids[0]})
    assert [event.id for event in rest] == ids[1:]
    assert alice.get(f"/runs/{run}/events", headers={"Last-Event-ID": "x"}).status_code == 422


def test_that_an_attempts_log_is_gone_is_told_once(
    alice: httpx.Client, local_flyte: LocalFlyte, tmp_path: Path
) -> None:
    run = start("tests.stumble", times=1, until=str(tmp_path / "end"))
    with alice.stream("GET", f"/runs/{run}/logs") as log:
        assert any(event.data == "attempt 1, line 2" for event in events(log))
    local_flyte.delete_pods()
    with alice.stream("GET", f"/runs/{run}/logs") as log:
        told = events(log)
        assert next(told) == ("unavailable", '{"attempt": 1}', "1-gone")
        assert next(told) == ("attempt", '{"attempt": 2}', "2-0")
        assert any(event.data == "attempt 1, line 2" for event in told)
        (tmp_path / "end").touch()
        assert {event.type for event in told} <= {"message"}
    rest = sent(alice, run, "logs", **{"Last-Event-ID": "1-gone"})
    assert rest[0] == ("attempt", '{"attempt": 2}', "2-0")


def test_a_log_that_disappears_while_it_is_read_is_not_read_from_its_start(
    alice: httpx.Client, elsewhere: Elsewhere, log: Callable[..., None], greeting: str
) -> None:
    log(lines("one"), envelope(b'{"error": {"code": "not_found"}}', 2))
    told = alice.get(f"/runs/{greeting}/logs").text.split("\n\n")[:-1]
    assert told == ["data: one\nid: 1-1", 'event: unavailable\ndata: {"attempt": 1}\nid: 1-gone']
    assert len(elsewhere.received) == 1


def test_a_log_resumes_after_any_event_also_within_a_long_message(
    alice: httpx.Client, log: Callable[..., None], greeting: str
) -> None:
    messages = ("one\ntwo\rth\aree\r\n", "x" * (2 * PART_CHARS + 1), "last")
    log(lines(*messages), envelope(b"{}", 2))
    told = sent(alice, greeting, "logs")
    assert told[0] == ("message", "one\ntwo\nth\aree", "1-1")
    assert [len(event.data) // PART_CHARS for event in told] == [0, 1, 1, 0, 0]
    assert told[3:] == [("message", "x", "1-4"), ("message", "last", "1-5")]
    assert resumes(alice, greeting, "logs", told)


def test_a_log_beyond_what_a_request_may_receive_is_gone_on_with(
    alice: httpx.Client, log: Callable[..., None], greeting: str
) -> None:
    log(*[lines("x" * 1_000_000)] * 10, envelope(b"{}", 2))
    told = sent(alice, greeting, "logs", **{"Last-Event-ID": "1-1628"})
    assert [event.id for event in told] == ["1-1629", "1-1630"]


# Actions


def test_a_runs_actions_are_a_tree_with_attempts_groups_and_errors(
    alice: httpx.Client, family: str, local_flyte: LocalFlyte
) -> None:
    listed = alice.get(f"/runs/{ended(family)}/actions").json()
    root, *children = sorted(listed, key=lambda each: each["name"] != "a0")  # of the same second
    assert [root[key] for key in ("name", "title", "parent")] == ["a0", "family", None]
    keys = ("parent", "group", "task", "type")
    of_all = ["a0", "children", f"{TASKS}.stumble", "task"]
    assert all([each[key] for key in keys] == of_all for each in children)
    told = sorted((each["phase"], each["attempts"]) for each in children)
    assert told == [("failed", 2), ("succeeded", 1), ("succeeded", 2)]
    (failed,) = (each for each in children if each["phase"] == "failed")
    assert "attempt 1 stumbles" in failed["error"]
    phases = [each for each in failed["phases"] if each["attempt"] == 2]
    assert [each["phase"] for each in phases][-2:] == ["running", "failed"]
    for before, after in pairwise(phases):
        assert before["ended_at"] == after["started_at"]

    local_flyte.fail_next("GetActionDetails", Code.NOT_FOUND)  # as of a child just enqueued
    again = alice.get(f"/runs/{family}/actions").json()
    for key in ("name", "phase", "parent", "group", "started_at", "ended_at"):
        assert [each[key] for each in again] == [each[key] for each in listed]
    assert [each["title"] for each in again].count(None) == 1
    last = alice.get(f"/runs/{family}/actions", params={"offset": 3, "limit": 3})
    assert last.json() == listed[3:]


def test_recovering_takes_over_what_has_succeeded(
    bob: httpx.Client, family: str, broken: Path
) -> None:
    ended(family)
    broken.unlink()
    again = bob.post(f"/runs/{family}/rerun", json={"recover": True})
    assert again.status_code == 201
    actions = bob.get(f"/runs/{ended(again.json()['name'])}/actions").json()
    phases = sorted(each["phase"] for each in actions if each["parent"])
    assert phases == ["recovered", "recovered", "succeeded"]
    assert bob.get(f"/runs/{again.json()['name']}/io").json()["outputs"] == {"o0": [0, 1, 0]}


def test_a_new_run_is_where_its_location_says_also_behind_a_proxy_with_a_prefix(
    local_flyte: LocalFlyte, greeting: str, tmp_path: Path
) -> None:
    with (
        serving(build_app(router), root_path="/flyte") as app,
        in_front_of(tmp_path, int(app.rpartition(":")[2]), prefix="/flyte/") as outside,
        client_of(f"http://127.0.0.1:{outside}", "alice") as alice,
    ):
        made = alice.post(f"/flyte/runs/{greeting}/rerun")
        shown = alice.get(made.headers["Location"]).json()
        assert shown["name"] == made.json()["name"]
        told = events(alice.get(f"/flyte/runs/{greeting}/actions/events"))
        assert next(told).type == "action"
        assert alice.get("/runs").status_code == 404  # of Envoy


# Reports


def test_a_reports_address_is_not_logged(
    alice: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    drawn = ended(start("tests.draw", html="<p>42</p>"))
    answer = alice.get(f"/runs/{drawn}/report")
    assert answer.status_code == 303
    assert answer.headers["location"].partition("?")[0] not in caplog.text


# What took effect


@pytest.mark.parametrize(
    ("path", "body", "taken", "read"),
    [
        ("abort", {}, "AbortRun", "GetRunDetails"),
        ("actions/a0/abort", {}, "AbortAction", "GetActionDetails"),
        ("conditions/{action}", {"value": True}, "SignalEvent", "GetActionDetails"),
    ],
)
def test_what_took_effect_is_told_even_if_nothing_can_be_read_afterwards(
    *, alice: httpx.Client, local_flyte: LocalFlyte, path: str, body: Any, taken: str, read: str
) -> None:
    run = start("tests.ask", prompts=["?"])
    wait_until(lambda: alice.get(f"/runs/{run}/conditions").json())
    (condition,) = alice.get(f"/runs/{run}/conditions").json()
    with ThreadPoolExecutor(1) as thread:
        with local_flyte.hang(taken):
            answer = thread.submit(alice.post, f"/runs/{run}/{path.format(**condition)}", json=body)
            wait_until(lambda: local_flyte.open_calls(taken))
            local_flyte.fail_next(read, Code.UNKNOWN, times=100)
        assert answer.result().is_success
    local_flyte.fail_next(read, Code.UNKNOWN, times=0)
    ended(run)

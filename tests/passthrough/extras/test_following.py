"""Logs that are followed."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from app.routers import streams
from local_flyte import LocalFlyte
from local_flyte.testing import Event, events, start, wait_until
from passthrough.extras.following import PART_CHARS

from ..stub_servers import StubServer, envelope, lines
from ..support import router_of, sent

pytestmark = pytest.mark.usefixtures("certificate")
router = router_of(streams)


def resumes(client: httpx.Client, run: str, kind: str, stream: list[Event]) -> bool:
    """Tell whether a stream goes on after any of its events."""
    rests = [sent(client, run, kind, **{"Last-Event-ID": event.id}) for event in stream]
    return rests == [stream[place + 1 :] for place, _ in enumerate(stream)]


def test_streams_resume_in_attempt_of_last_event(
    alice: httpx.Client, local_flyte: LocalFlyte, tmp_path: Path
) -> None:
    run, phases = start("tests.stumble", times=1, until=str(tmp_path / "end")), list[Event]()
    with ThreadPoolExecutor(1) as thread, alice.stream("GET", f"/runs/{run}/events") as watched:
        reading = thread.submit(sent, alice, run, "logs")
        wait_until(lambda: local_flyte.open_calls("TailLogs"))
        for event in events(watched):
            phases.append(event)
            attempt, _, phase = event.id.partition("-")
            if phase == "running":
                (tmp_path / f"end-{int(attempt) - 1}").touch()
        log = reading.result()
    lines = [f"attempt {attempt}, line {n}" for attempt in (0, 1) for n in range(3)]
    assert [event.data for event in log if event.data in lines] == lines
    attempts = [event for event in log if event.type != "message"]
    assert attempts == [("attempt", '{"attempt": 2}', "2-0")]
    assert len({event.id for event in log}) == len(log)
    assert resumes(alice, run, "logs", log)

    *_, running, second, end = phases
    assert (second.type, json.loads(second.data)["attempts"]) == ("attempt", 2)
    ids = [event.id for event in (running, second, end)]
    assert ids == ["1-running", "2-running", "2-succeeded"]
    rest = sent(alice, run, "events", **{"Last-Event-ID": ids[0]})
    assert [event.id for event in rest] == ids[1:]
    assert alice.get(f"/runs/{run}/events", headers={"Last-Event-ID": "x"}).status_code == 422


def test_missing_log_is_reported_once(
    alice: httpx.Client, local_flyte: LocalFlyte, tmp_path: Path
) -> None:
    run = start("tests.stumble", times=1, until=str(tmp_path / "end"))
    (tmp_path / "end-0").touch()
    with alice.stream("GET", f"/runs/{run}/logs") as log:
        assert any(event.data == "attempt 1, line 2" for event in events(log))
    local_flyte.delete_pods()
    with alice.stream("GET", f"/runs/{run}/logs") as log:
        stream = events(log)
        assert next(stream) == ("unavailable", '{"attempt": 1}', "1-gone")
        assert next(stream) == ("attempt", '{"attempt": 2}', "2-0")
        assert any(event.data == "attempt 1, line 2" for event in stream)
        (tmp_path / "end-1").touch()
        assert {event.type for event in stream} <= {"message"}
    rest = sent(alice, run, "logs", **{"Last-Event-ID": "1-gone"})
    assert rest[0] == ("attempt", '{"attempt": 2}', "2-0")


def test_log_stream_ends_if_log_disappears(
    alice: httpx.Client, stub: StubServer, log: Callable[..., None], greeting: str
) -> None:
    log(lines("one"), envelope(b'{"error": {"code": "not_found"}}', 2))
    blocks = alice.get(f"/runs/{greeting}/logs").text.split("\n\n")[:-1]
    assert blocks == ["data: one\nid: 1-1", 'event: unavailable\ndata: {"attempt": 1}\nid: 1-gone']
    assert len(stub.received) == 1


def test_log_stream_can_resume_after_any_event(
    alice: httpx.Client, log: Callable[..., None], greeting: str
) -> None:
    messages = ("one\ntwo\rth\aree\r\n", "x" * (2 * PART_CHARS + 1), "last")
    log(lines(*messages), envelope(b"{}", 2))
    stream = sent(alice, greeting, "logs")
    assert stream[0] == ("message", "one\ntwo\nth\aree", "1-1")
    assert [len(event.data) // PART_CHARS for event in stream] == [0, 1, 1, 0, 0]
    assert stream[3:] == [("message", "x", "1-4"), ("message", "last", "1-5")]
    assert resumes(alice, greeting, "logs", stream)

"""The parser of server-sent events that the tests of a project use."""

import httpx
import pytest

from local_flyte.testing import Event, events

STREAM = (
    ": ping",
    "event: phase\nid: running\ndata: {}",
    ": one comment\n: another\nretry: 1000",
    "data: one\ndata:two\ndata\nid: 1-2",
    "data: \u2028 is no line break",
    "data: this event is not complete",
)
EXPECTED = [
    Event("phase", "{}", "running"),
    Event("message", "one\ntwo\n", "1-2"),
    Event("message", "\u2028 is no line break", ""),
]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_events_are_whole_however_they_arrive(end: str, size: int) -> None:
    sent = "\n\n".join(STREAM).replace("\n", end).encode()
    parts = [sent[at : at + size] for at in range(0, len(sent), size)]
    response = httpx.Response(200, content=iter(parts))
    assert [*events(response)] == EXPECTED

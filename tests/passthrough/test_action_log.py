"""A log as the page and agents read it: `follow_log`."""

from collections.abc import Callable

import httpx
import pytest

from app.routers.streams import router  # noqa: F401 - the fixture ``url`` serves it
from passthrough.extras.action_log import PART_CHARS

from .elsewhere import Elsewhere, envelope, lines

pytestmark = pytest.mark.usefixtures("certificate")


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

    def events(seen: int) -> list[str]:
        headers = {"Last-Event-ID": f"1-{seen}"}
        return alice.get(f"/runs/{greeting}/logs", headers=headers).text.split("\n\n")[:-1]

    told = events(0)
    assert told[0] == "data: one\ndata: two\ndata: th\aree\nid: 1-1"
    assert [len(event) // PART_CHARS for event in told] == [0, 1, 1, 0, 0]
    assert told[3:] == ["data: x\nid: 1-4", "data: last\nid: 1-5"]
    for seen in range(1, 6):
        assert events(seen) == told[seen:]

"""Many people at once, over real connections: nobody ever acts as somebody else."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from local_flyte import LocalFlyte, Person, ReceivedCall

from .support import needs, offers

PEOPLE_AT_ONCE = 50
STREAMS = {
    "GET": ["/runs/{run}/events", "/runs/{run}/logs"],
    "WEBSOCKET": ["/runs/{run}/watch"],
}
LONG = [path for method, paths in STREAMS.items() for path in paths if offers(path, method)]
REQUESTS = [*LONG, *["/me"] * (10 - len(LONG))]
"""What each of them asks for: 500 requests in all, streams and WebSockets among them."""

pytestmark = [pytest.mark.reads_what_flyte_received, needs("/me")]


async def ask(client: httpx.AsyncClient, url: str, path: str, person: Person) -> str | None:
    """Ask as a person; return the subject that the answer is about, if it is about one."""
    headers = {"Authorization": f"Bearer {person.token}"}
    if path.endswith("/watch"):
        address = url.replace("http", "ws", 1) + path
        async with connect(
            address, additional_headers=headers, proxy=None, open_timeout=60
        ) as websocket:
            assert [message async for message in websocket]
        return None
    response = await client.get(url + path, headers=headers)
    assert response.status_code == 200, response.text
    return response.json()["subject"] if path == "/me" else None


async def _everyone_asks(url: str, people: list[Person], run: str) -> None:
    requests = [(path.format(run=run), person) for path in REQUESTS for person in people]
    random.Random(0).shuffle(requests)
    # Far fewer connections than people, so that each carries the requests of many.
    limits = httpx.Limits(max_connections=20, max_keepalive_connections=20)
    async with httpx.AsyncClient(limits=limits, timeout=120, trust_env=False) as client:
        answers = await asyncio.gather(
            *(ask(client, url, path, person) for path, person in requests)
        )
    for (path, person), subject in zip(requests, answers, strict=True):
        assert subject == (person.subject if path == "/me" else None)


def test_500_interleaved_requests_are_each_answered_to_their_asker(
    app_url: str,
    local_flyte: LocalFlyte,
    greeting: dict[str, Any],
    received: Callable[[], list[ReceivedCall]],
) -> None:
    people = [local_flyte.add_person(f"person-{number}") for number in range(PEOPLE_AT_ONCE)]
    asyncio.run(_everyone_asks(app_url, people, greeting["name"]))

    # The streams say the same to everyone. But Flyte saw who asked: each person, each time.
    by_method: dict[str, Counter[str]] = {}
    for call in received():
        assert call.person is not None, call
        by_method.setdefault(call.method, Counter())[call.person.name] += 1
    by_method.pop("SelectCluster", None)  # the SDK keeps its answers, which say nothing of callers
    for method, callers in by_method.items():
        assert callers.keys() == {person.name for person in people}, method
        assert len(set(callers.values())) == 1, method
    assert "UserInfo" in by_method

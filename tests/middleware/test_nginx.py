"""Two people behind one nginx that reuses its connection to the app: the leak, as it is met."""

import json
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from starlette.types import Receive, Scope, Send

from ..nginx import in_front_of
from .harness import IS_ALICE, Class, serve, tell


def test_the_next_person_through_nginx_is_not_the_previous_one(cls: Class, tmp_path: Path) -> None:
    connections = set()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        connections.add(scope["client"])
        await tell(scope, receive, send)

    with (
        serve(cls(app, None, {"/health"}), loop="asyncio", http="httptools") as upstream,
        in_front_of(tmp_path, upstream) as port,
    ):

        def ask(*request: Any) -> Any:
            with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as person:
                person.request(*request)
                return json.load(person.getresponse())

        for _ in range(3):
            assert ask("POST", "/upload", b"x" * 300_000, IS_ALICE) == IS_ALICE
            assert ask("GET", "/health") == {}
    assert len(connections) == 1, "if nginx does not reuse its connection, this shows nothing"

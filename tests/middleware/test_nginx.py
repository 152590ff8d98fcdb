"""Two people behind one nginx that reuses its connection to the app: the leak, as it is met."""

from pathlib import Path

from starlette.types import Receive, Scope, Send

from ..nginx import in_front_of
from .harness import Class, Connection, reply, serve, who


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    await reply(send, who().encode(), (b"x-upstream", b"%d" % scope["client"][1]))


def test_the_next_person_through_nginx_is_not_the_previous_one(cls: Class, tmp_path: Path) -> None:
    with (
        serve(cls(app, None, {"/health"}), loop="asyncio", http="httptools") as upstream,
        in_front_of(tmp_path, upstream) as port,
    ):
        for _ in range(3):
            with Connection(port) as alice, Connection(port) as bob:
                body = b"x" * 300_000
                uploaded = alice.ask("POST", "/upload", "Authorization: Bearer alice", body=body)
                assert uploaded.body == b"Bearer alice"
                asked = bob.ask("GET", "/health")
                # The same connection to the app, or this shows nothing.
                assert asked.headers["x-upstream"] == uploaded.headers["x-upstream"]
                assert asked.body == b"nobody"

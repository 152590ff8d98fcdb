"""Two people behind one nginx that reuses its connection to the app: the leak, as it is met."""

import stat
from pathlib import Path

import get_nginx
import pytest
from starlette.types import Receive, Scope, Send

from ..nginx import in_front_of
from .harness import Class, Connection, reply, sdk_fails, serve, who


def test_it_is_unpacked_from_a_folder_that_nobody_else_can_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise any user of the machine could put their own package there."""
    modes: list[int] = []

    def quietly(*command: str, cwd: Path | None = None) -> bool:
        if cwd:
            modes.append(stat.S_IMODE(cwd.stat().st_mode))
        return True

    monkeypatch.setattr(get_nginx, "find", lambda: None)
    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr(get_nginx, "quietly", quietly)
    get_nginx.main()
    assert modes == [0o700]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    await reply(send, who().encode(), (b"x-upstream", b"%d" % scope["client"][1]))


@sdk_fails("behind nginx the next caller on the connection runs as the previous one")
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

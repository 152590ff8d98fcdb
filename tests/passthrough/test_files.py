"""The upload of a file: as its caller, within its limit, and nothing of it stays in the app."""

import select
import socket
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from app.routers.files import router
from local_flyte import PEOPLE, LocalFlyte
from local_flyte.testing import serving, wait_until
from passthrough.limits import Limits

from .support import build_app

__all__ = ["router"]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, which is empty."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def begin(url: str, length: int, person: str = "alice") -> socket.socket:
    """Send the headers of an upload."""
    address = urlsplit(url)
    connection = socket.create_connection((address.hostname, address.port))
    head = ["POST /files HTTP/1.1", "Host: app", f"Authorization: Bearer {PEOPLE[person].token}"]
    head += [f"Content-Length: {length}", "", ""]
    connection.sendall("\r\n".join(head).encode())
    return connection


def test_what_is_refused_is_refused_before_it_is_read(url: str, local_flyte: LocalFlyte) -> None:
    local_flyte.clear_calls()
    for length, person, status in (
        (Limits().file_bytes + 1, "alice", b"413"),
        (1000, "expired", b"401"),
    ):
        with closing(begin(url, length, person)) as connection:
            assert connection.recv(100).startswith(b"HTTP/1.1 %b " % status)
    assert not [each for each in local_flyte.calls if each.method == "CreateUploadLocation"]


def test_a_client_who_leaves_leaves_nothing(
    url: str, local_flyte: LocalFlyte, temporary: Path
) -> None:
    with closing(begin(url, 1000)) as connection:
        connection.sendall(b"x" * 10)
        wait_until(lambda: [*temporary.iterdir()])
    wait_until(lambda: not [*temporary.iterdir()])
    with local_flyte.hang("CreateUploadLocation"):
        with closing(begin(url, 1)) as connection:
            connection.sendall(b"x")
            wait_until(lambda: local_flyte.open_calls("CreateUploadLocation"))
        wait_until(lambda: not local_flyte.open_calls("CreateUploadLocation"))
        wait_until(lambda: not [*temporary.iterdir()])


def test_a_file_may_arrive_slowly_because_the_deadline_is_for_the_response(
    local_flyte: LocalFlyte,
) -> None:
    app = build_app(router, flyte_timeout=1.0)  # a response has twice that
    with serving(app) as url, closing(begin(url, 10)) as connection:
        for _ in range(9):
            connection.sendall(b"x")
            too_early, *_ = select.select([connection], [], [], 0.3)
            assert not too_early, connection.recv(10_000)
        connection.sendall(b"x")
        assert connection.recv(100).startswith(b"HTTP/1.1 201 ")


def test_files_of_one_name_that_are_uploaded_at_once_are_not_mixed_up(
    alice: httpx.Client, bob: httpx.Client
) -> None:
    contents = [f"content {number}".encode() for number in range(20)]

    def upload(content: bytes) -> str:
        client = (alice, bob)[content[-1] % 2]
        answer = client.post("/files", params={"name": "same.txt"}, content=content)
        uri: str = answer.json()["uri"]
        return uri

    with ThreadPoolExecutor(10) as threads:
        uris = [*threads.map(upload, contents)]
    assert [Path(uri).read_bytes() for uri in uris] == contents


NAMES = {
    "towns 2026 (1).csv": "towns_2026_1_.csv",
    "größe.csv": "größe.csv",
    "a/../b\\c.csv": "c.csv",
    "..": "file",
    "": "file",
    "\r\nX: y": "_X_y",
    "x" * 300: "x" * 100,
}


def test_a_file_is_called_like_the_callers_but_leads_nowhere(alice: httpx.Client) -> None:
    answers = [alice.post("/files", params={"name": name}, content=b"") for name in NAMES]
    assert [Path(answer.json()["uri"]).name for answer in answers] == [*NAMES.values()]


@pytest.fixture(autouse=True)
def _nothing_is_left(temporary: Path) -> Iterator[None]:
    yield
    assert [*temporary.iterdir()] == []

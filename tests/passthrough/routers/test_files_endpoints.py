"""Uploads."""

import select
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.routers.files import router
from local_flyte import LocalFlyte
from local_flyte.testing import serving, wait_until
from passthrough.limits import Limits

from ..support import build_app, connected, head

__all__ = ["router"]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary files, which is empty before and after a test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    assert [*tmp_path.iterdir()] == []


def begin(
    url: str, length: int, person: str = "alice", kind: str = "application/octet-stream"
) -> socket.socket:
    """Send the headers of an upload."""
    headers = f"Content-Type: {kind}", f"Content-Length: {length}"
    return connected(url, head("/files", *headers, person=person, method="POST"))


def test_refused_upload_is_not_read(url: str, local_flyte: LocalFlyte) -> None:
    local_flyte.clear_calls()
    for length, person, kind, status in (
        (Limits().max_upload_bytes + 1, "alice", "text/plain", b"413"),
        (2_000_000, "expired", "text/plain", b"401"),
        (2_000_000, "alice", "application/JSON", b"415"),  # else all of it would be in memory
        (2_000_000, "alice", "multipart/form-data; boundary=x", b"415"),
    ):
        with begin(url, length, person, kind) as connection:
            assert connection.recv(100).startswith(b"HTTP/1.1 %b " % status)
    assert not [call for call in local_flyte.calls if call.method == "CreateUploadLocation"]


def test_upload_without_content_is_refused(alice: httpx.Client) -> None:
    assert alice.post("/files").status_code == 422
    headers = {"Content-Type": "application/octet-stream"}
    assert alice.post("/files", headers=headers).status_code == 201


def test_aborted_upload_leaves_no_file_or_call(
    url: str, local_flyte: LocalFlyte, temporary: Path
) -> None:
    with begin(url, 2_000_000) as connection:
        connection.sendall(b"x" * 10)
        wait_until(lambda: [*temporary.iterdir()])
    wait_until(lambda: not [*temporary.iterdir()])
    with local_flyte.hang("CreateUploadLocation"):
        with begin(url, 1) as connection:
            connection.sendall(b"x")
            wait_until(lambda: local_flyte.open_calls("CreateUploadLocation"))
        wait_until(lambda: not local_flyte.open_calls("CreateUploadLocation"))
        wait_until(lambda: not [*temporary.iterdir()])


def test_slow_upload_has_no_deadline(local_flyte: LocalFlyte) -> None:
    app = build_app(router, flyte_timeout=1.0)  # a response has twice that
    with serving(app) as url, begin(url, 10) as connection:
        for _ in range(9):
            connection.sendall(b"x")
            too_early, *_ = select.select([connection], [], [], 0.3)
            assert not too_early, connection.recv(10_000)
        connection.sendall(b"x")
        assert connection.recv(100).startswith(b"HTTP/1.1 201 ")


NAMES = {
    "towns 2026 (1).csv": "towns_2026_1_.csv",
    "a/../b\\c.csv": "c.csv",
    "..": "file",
    "x" * 300: "x" * 200,
    "\u6f22.CSV": "_.csv",  # the SDK reads only .csv
}


def test_uploaded_file_name_is_sanitized(alice: httpx.Client) -> None:
    answers = [alice.post("/files", params={"name": name}, content=b"x") for name in NAMES]
    assert [Path(answer.json()["uri"]).name for answer in answers] == [*NAMES.values()]

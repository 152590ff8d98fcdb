"""Tests of request bodies: authentication before reading, and concurrent uploads."""

import socket
import threading
from contextlib import ExitStack

import httpx
from connectrpc.code import Code
from fastapi import APIRouter, Request

from local_flyte import PEOPLE, LocalFlyte
from local_flyte.testing import bearer, wait_until
from passthrough.dependencies import CallerDep

from ..support import Called, connected, head

router = APIRouter()
begun = threading.Semaphore(0)


@router.post("/length")
async def length(values: list[int]) -> int:
    return len(values)


def test_upload_is_not_read_before_authentication(url: str) -> None:
    headers = ["Authorization: Bearer invented", "Content-Type: application/json"]
    for size in ("Content-Length: 9000000", "Transfer-Encoding: chunked"):
        request = "\r\n".join(["POST /upload HTTP/1.1", "Host: app", *headers, size, "\r\n"])
        with connected(url, request.encode()) as connection:  # and no byte of the body
            assert connection.recv(12) == b"HTTP/1.1 401"


@router.get("/caller")
async def caller(_: CallerDep) -> None:
    pass


def test_slow_upload_holds_no_message_slot(
    url: str, bob: httpx.Client, local_flyte: LocalFlyte, called: Called
) -> None:
    """Flyte does not know the caller, so the app receives the large list of projects."""
    project = local_flyte._services.tasks._projects._project
    project.description, length = "x" * 100_000, "Content-Length: 9000000"
    try:
        local_flyte.fail_next("UserInfo", Code.UNAUTHENTICATED, times=2)
        with connected(url, head("/upload", length, method="POST")):
            wait_until(lambda: called("ListProjects") == 1)
            assert bob.get("/caller", timeout=30).is_success
            assert begun.acquire(timeout=60)
    finally:
        project.description = ""


@router.post("/upload", max_body_size=10_000_000)
async def upload(request: Request) -> None:
    begun.release()
    async for _ in request.stream():
        pass


def test_concurrent_uploads_per_caller_are_limited(url: str, bob: httpx.Client) -> None:
    alice = f"Authorization: {bearer('alice')}", f"Cookie: {PEOPLE['alice'].cookie}"

    def begin(credential: str) -> socket.socket:
        lines = "POST /upload HTTP/1.1", "Host: app", credential, "Content-Length: 9000000"
        return uploads.enter_context(connected(url, "\r\n".join((*lines, "\r\n")).encode()))

    with ExitStack() as uploads:
        opened = [begin(alice[number % 2]) for number in range(6)]
        begin(f"Authorization: {bearer('bob')}")
        for _ in range(6):
            assert begun.acquire(timeout=60)
        assert bob.post("/length", json=[]).json() == 0
        assert not begun.acquire(blocking=False)
        for connection in opened[:5]:
            connection.close()
        assert begun.acquire(timeout=60)

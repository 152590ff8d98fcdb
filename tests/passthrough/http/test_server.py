"""The connections of uvicorn: headers of proxies, trailers, upgrades, pipelining and resets."""

import asyncio
import logging
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import suppress
from contextvars import ContextVar

import httpx
import pytest
from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from local_flyte import LocalFlyte
from local_flyte.testing import bearer, serving, wait_until
from passthrough.http import cancellation

from ..support import build_app, connected, head

router = APIRouter()
MARK = ContextVar("mark", default="")
started: list[str] = []
"""The names of the endpoints that have started."""


@router.get("/client")
async def client(request: Request) -> list[str]:
    return [request.client.host if request.client else "", request.url.scheme]


@router.get("/mark")
async def mark() -> str:
    before = MARK.get()
    MARK.set("left by the request before")
    return before


def test_x_forwarded_for_is_ignored(alice: httpx.Client) -> None:
    sent = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
    assert alice.get("/client", headers=sent).json() == ["127.0.0.1", "http"]


def test_upgrade_header_is_ignored_silently(
    url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("uvicorn.error"), "propagate", True)
    with connected(url, head("/client", "Connection: Upgrade", "Upgrade: h2c")) as client:
        assert client.recv(12) == b"HTTP/1.1 200"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@router.post("/headers")
@router.get("/headers")
async def headers(request: Request) -> list[str]:
    """Return the names of the headers, once before and once after the body."""
    names = request.headers.keys()
    await request.body()
    return [*names, *request.headers.keys()]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("token_header", ["", "X-Forwarded-Access-Token"])
def test_credentials_in_trailers_are_ignored(
    local_flyte: LocalFlyte, method: str, token_header: str
) -> None:
    """RFC 9110, section 6.5.1, forbids servers to merge trailers into the headers."""
    request = f"{method} /headers HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n"
    trailer = f"{token_header or 'Authorization'}: {bearer('bob')}\r\n"
    sent = f"{request}2\r\n{{}}\r\n0\r\n{trailer}\r\n".encode()
    with (
        serving(build_app(router, token_header=token_header)) as url,
        connected(url, sent) as client,
    ):
        assert client.recv(12) == b"HTTP/1.1 401"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_trailers_do_not_change_headers_of_running_request(url: str, method: str) -> None:
    request = head("/headers", "Transfer-Encoding: chunked", method=method)
    next_request = head("/client", "Connection: close")
    trailers = b"Host: other\r\nX-Trailer: a\r\n"
    with connected(url, request + b"2\r\n{}\r\n0\r\n" + trailers + b"\r\n") as client:
        client.sendall(next_request)
        responses = client.makefile("rb").read()
    names = b'"host","authorization","transfer-encoding"'
    assert b"[" + names + b"," + names + b"]" in responses
    assert responses.count(b"HTTP/1.1 200") == 2  # the next request on the connection has headers


def test_body_after_upgrade_is_not_served_as_request(url: str) -> None:
    """Otherwise a proxy would mix up the responses of two users (request smuggling)."""
    started.clear()
    second = head("/next")
    framing = ("Connection: Upgrade", "Upgrade: x", f"Content-Length: {len(second)}")
    with connected(url, head("/client", *framing, method="POST")) as client:
        answer = client.recv(12)
        with suppress(OSError):  # the app has closed the connection
            client.sendall(second)
            answer += client.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1") == 1
    assert not started


def test_reset_connection_leaves_no_request_in_memory(probe: httpx.Client) -> None:
    with connected(str(probe.base_url), head("/me")) as connection:
        assert connection.recv(1 << 16)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # The server itself forgets a connection that was reset after 120 seconds.
    wait_until(lambda: not probe.get("/memory").json()["requests"], 100)


def test_pipelined_request_inherits_no_context_variables(url: str) -> None:
    with connected(url, head("/mark") + head("/mark", "Connection: close")) as pipelined:
        answers = pipelined.makefile("rb").read()
    assert answers.count(b'\r\n\r\n""') == 2
    assert b"left by" not in answers


@router.get("/exact")
async def exact() -> StreamingResponse:
    """Send the end of the response after the client has received all bytes."""

    async def body() -> AsyncGenerator[bytes]:
        yield b"all"
        await asyncio.sleep(0.2)

    return StreamingResponse(body(), headers={"Content-Length": "3"})


def test_request_before_end_of_response_is_served(alice: httpx.Client) -> None:
    for _ in range(2):
        with alice.stream("GET", "/exact") as response:
            assert response.read() == b"all"
    assert alice.get("/client").is_success


@router.get("/held")
async def held() -> None:
    started.append("held")
    await asyncio.Event().wait()


@router.get("/next")
async def next_one() -> None:
    started.append("next")


def test_pipelined_request_is_not_started_after_a_stop(
    local_flyte: LocalFlyte, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancellation, "STOP_SECONDS", 0.1)
    with serving(build_app(router)) as url:
        pipelined = connected(url, head("/held") + head("/next"))
        wait_until(lambda: started)
    with pipelined:
        assert pipelined.makefile("rb").read().count(b"HTTP/1.1 503") == 1
    assert started == ["held"]

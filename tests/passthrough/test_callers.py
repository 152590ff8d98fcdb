"""What one caller may have open at once, and how the log shows whose requests they are."""

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from fastapi.testclient import TestClient
from flyte import remote

from local_flyte import PEOPLE, LocalFlyte
from local_flyte.testing import bearer, client_of, serving, wait_until

from .faulty import connected, head
from .support import build_app

MOST = 3
router = APIRouter()
go_on = threading.Event()
entered = threading.Semaphore(0)


@router.get("/events", response_class=EventSourceResponse)
async def events() -> AsyncGenerator[ServerSentEvent]:
    yield ServerSentEvent(data=1)
    await remote.User.get.aio()  # which the test makes hang


@router.get("/thread")
def thread() -> None:
    entered.release()
    go_on.wait()


@router.get("/thread-of-asyncio")
async def thread_of_asyncio() -> None:
    await asyncio.to_thread(thread)


@router.get("/other-thread-of-asyncio")
async def other_thread_of_asyncio() -> str:
    return await asyncio.to_thread(other_thread)


@router.get("/large")
async def large() -> Response:
    return Response(bytes(50_000_000))  # more than the buffers of both sockets


@router.get("/other-thread")
def other_thread() -> str:
    return "served"


@pytest.fixture(autouse=True)
def _nothing_waits() -> Iterator[None]:
    go_on.clear()
    yield
    go_on.set()


@pytest.fixture(scope="module")
def url(local_flyte: LocalFlyte) -> Iterator[str]:
    with serving(build_app(router, open_requests_per_caller=MOST)) as url:
        yield url


def test_a_caller_has_a_limited_number_of_open_requests(url: str, local_flyte: LocalFlyte) -> None:
    with (
        local_flyte.hang("UserInfo"),
        client_of(url, "alice") as alice,
        client_of(url, "bob") as bob,
        ExitStack() as streams,
    ):
        for _ in range(MOST):
            stream = streams.enter_context(alice.stream("GET", "/events"))
            assert stream.status_code == 200
        refused = alice.get("/other-thread")
        assert refused.status_code == refused.json()["status"] == 429
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert int(refused.headers["Retry-After"]) > 0
        assert alice.get("/health").is_success  # which needs no credentials
        assert bob.get("/other-thread").json() == "served"
        streams.close()
        wait_until(lambda: alice.get("/other-thread").status_code == 200)


@pytest.mark.parametrize(
    "headers",
    [
        {"Cookie": "flyte_at_2=invented-{0}"},
        {"Authorization": "bearer   {token}"},
        {"Authorization": "", "Cookie": "flyte_at={token}; flyte_at_2=invented-{0}"},
    ],
)
def test_further_cookies_and_other_spellings_make_no_other_caller(
    url: str, local_flyte: LocalFlyte, headers: dict[str, str]
) -> None:
    token = PEOPLE["alice"].token
    with (
        local_flyte.hang("UserInfo"),
        client_of(url, "alice") as alice,
        ExitStack() as streams,
    ):
        for number in range(MOST):
            others = {name: text.format(number, token=token) for name, text in headers.items()}
            stream = streams.enter_context(alice.stream("GET", "/events", headers=others))
            assert stream.status_code == 200
        assert alice.get("/other-thread").status_code == 429


def test_an_answer_that_nobody_reads_is_an_open_request(url: str) -> None:
    with client_of(url, "alice") as alice, ExitStack() as clients:
        for _ in range(MOST):
            client = clients.enter_context(connected(url, head("/large")))
            assert client.recv(12) == b"HTTP/1.1 200"
        assert alice.get("/other-thread").status_code == 429
        clients.close()
        wait_until(lambda: alice.get("/other-thread").status_code == 200)
        assert len(alice.get("/large").content) == 50_000_000


@pytest.mark.parametrize("path", ["/thread", "/thread-of-asyncio"])
def test_a_caller_cannot_hold_all_threads(local_flyte: LocalFlyte, path: str) -> None:
    most = 60  # more than the 40 threads that there are by default
    app = build_app(router, open_requests_per_caller=most)
    with (
        serving(app) as url,
        httpx.Client(
            base_url=url,
            headers={"Authorization": bearer("alice")},
            trust_env=False,
            timeout=300,
            limits=httpx.Limits(max_connections=None),
        ) as alice,
        client_of(url, "bob") as bob,
        ThreadPoolExecutor(most) as do,
    ):
        waiting = [do.submit(alice.get, path) for _ in range(most)]
        for _ in range(most):
            assert entered.acquire(timeout=60)
        assert bob.get("/other-thread").json() == "served"
        assert bob.get("/other-thread-of-asyncio").json() == "served"
        go_on.set()
        assert {answer.result().status_code for answer in waiting} == {200}


def logged(app: Any, caplog: pytest.LogCaptureFixture, token: str) -> str:
    """Return how the log shows a caller."""
    caplog.clear()
    with TestClient(app) as client:
        client.get("/other-thread", headers={"Authorization": f"Bearer {token}"})
    (fields,) = (vars(one)["fields"] for one in caplog.records if one.name == "app.access")
    caller: str = fields["caller"]
    return caller


def test_the_hash_in_the_log_is_of_the_credentials_and_another_one_after_a_restart(
    local_flyte: LocalFlyte, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("app.access"), "propagate", True)
    caplog.set_level(logging.INFO, "app.access")
    app, restarted = build_app(router), build_app(router)
    alice, bob = logged(app, caplog, "alices-token"), logged(app, caplog, "bobs-token")
    assert len(alice) == len(bob) == 12
    assert alice == logged(app, caplog, "alices-token")
    assert len({alice, bob, logged(restarted, caplog, "alices-token")}) == 3
